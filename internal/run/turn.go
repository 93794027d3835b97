package run

// Class is what polling has brought for a run so far. Where the budget of requests
// is short, the classes share it, and within a class other than Heard submissions
// take turns.
type Class int

// The classes.
const (
	Heard   Class = iota // it had an answer, or nothing is known of its submission
	Newest               // it was never asked for, and is of the newest such submission
	Unasked              // it was never asked for
	Unheard              // it was asked for, and there was no answer: 5xx, 429, network
	Missing              // nothing but 404, or another refusal of its own, was answered
	Classes
)

// Due is a run to poll now.
type Due struct {
	Run
	Turn Class // whose turn is its; Newest counts as one
}

// Class returns the run's class: never Newest, which follows from other runs.
func (r Run) Class() Class {
	switch {
	case r.Submission == 0 || r.Ended() || !r.Polls.Answered.IsZero():
		return Heard
	case r.Polls.Count == 0:
		return Unasked
	case r.Polls.NotFound > 0:
		return Missing
	}
	return Unheard
}

// Turns are the submissions whose runs were asked for last, by class: the next ones
// have their turn. The zero value is ready.
type Turns [Classes]int64
