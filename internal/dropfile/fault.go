package dropfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// quoted is how many characters of what is wrong are shown; quoteFrom how many
// bytes are looked at for that: a URL in them is redacted before it is cut.
const (
	quoted    = 40
	quoteFrom = 1 << 10
)

// Fault is one thing in a drop file that was not taken.
type Fault struct {
	Line   int    // from 1; 0: the whole file
	Reason string // with what to do, where that is not plain
	Done   string // what became of it all the same where the rest of the file was taken; may be empty
	Quote  string // up to 40 characters of it in quotes, without secrets and control characters; may be empty
	Labels bool   // labels beyond a limit: the runs were taken without them
}

// String is the fault as a line for people.
func (f Fault) String() string {
	s := f.Reason
	if f.Done != "" {
		s += ": " + f.Done
	}
	if f.Quote != "" {
		s = f.Quote + ": " + s
	}
	if f.Line > 0 {
		s = "line " + strconv.Itoa(f.Line) + ": " + s
	}
	return s
}

func (p *parser) fault(line int, reason, what string) {
	if len(p.result.Faults) == maxFaults {
		p.result.Hidden++
		return
	}
	f := Fault{Line: line, Reason: signedurl.Redact(reason)}
	if what != "" {
		f.Quote = Quote(what)
	}
	p.result.Faults = append(p.result.Faults, f)
}

// tooMuch is the fault of labels beyond a limit.
func (p *parser) tooMuch(line int, reason, done string) {
	p.fault(line, reason, "")
	if p.result.Hidden == 0 {
		f := &p.result.Faults[len(p.result.Faults)-1]
		f.Labels, f.Done = true, done
	}
}

// leftOut is the fault of labels that cannot be read.
func (p *parser) leftOut(line int, reason, what string) {
	p.fault(line, reason, what)
	if p.result.Hidden == 0 {
		p.result.Faults[len(p.result.Faults)-1].Done = "left out"
	}
}

// GiveUp makes an empty file that says nothing a fault: nobody wrote it.
func (r *Result) GiveUp() {
	if r.Unwritten != "" {
		r.Faults = append(r.Faults, Fault{Reason: r.Unwritten})
	}
}

// Refuse adds the fault of a hand-in, by its place in HandIns, that the queue refused
// for good after the file was read.
func (r *Result) Refuse(at int, why run.Refused) {
	if why.NotTaken {
		r.Refused++
	}
	if len(r.Faults) == maxFaults {
		r.Hidden++
		return
	}
	f := Fault{Reason: signedurl.Redact(why.Reason), Quote: Quote(string(r.HandIns[at].ID)), Labels: !why.NotTaken}
	if f.Labels {
		f.Done = "the run was taken without these labels"
	}
	r.Faults = append(r.Faults, f)
}

func (p *parser) faults() int { return len(p.result.Faults) + p.result.Hidden }

// Quote shows s: up to 40 characters in quotes, without the secrets of a URL and
// without control characters.
func Quote(s string) string {
	s = signedurl.Redact(s[:min(len(s), quoteFrom)])
	shown, more := s, ""
	if utf8.RuneCountInString(s) > quoted {
		n := 0
		for range quoted {
			_, size := utf8.DecodeRuneInString(s[n:])
			n += size
		}
		shown, more = s[:n], "..."
	}
	return strconv.Quote(shown) + more
}

// whyNot says why s is no run ID.
func whyNot(s string) string {
	if strings.Contains(s[:min(len(s), quoteFrom)], "://") {
		return "a URL, not a run ID"
	}
	for _, c := range s {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		case c == ' ', c == '\t', c == ',', c == ';':
			return "not one run ID: write one a line, or name the columns in the first line (run_id)"
		case c == utf8.RuneError:
			return "holds bytes that are not UTF-8; a run ID is made of A-Z a-z 0-9 _ -"
		default:
			return fmt.Sprintf("holds %q; a run ID is made of A-Z a-z 0-9 _ -", c)
		}
	}
	return fmt.Sprintf("has %d characters; a run ID has %d to %d", len(s), run.MinID, run.MaxID)
}

// Report is the text of the .error file beside a rejected drop file: what was
// wrong, line by line, how many IDs were taken all the same, and what to do.
func (r Result) Report(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s was not accepted as a whole: %s.\n\n", strconv.Quote(signedurl.Redact(name)), r.tally())
	for _, f := range r.Faults {
		b.WriteString(f.String() + "\n")
	}
	if r.Hidden > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.Hidden)
	}
	b.WriteString("\nMend the file and put it into the drop directory again: an ID that is known already costs nothing.\n")
	return b.String()
}

func (r Result) tally() string {
	n := len(r.Faults) + r.Hidden
	taken := len(r.HandIns) - r.Refused
	return fmt.Sprintf("%s %s taken, %s %s found", count(taken, "ID"), was(taken), count(n, "fault"), was(n))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
