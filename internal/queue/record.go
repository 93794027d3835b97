package queue

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// record is a run as it is stored.
type record struct {
	run.Run
	due   int64    // when to poll it, unix ms; 0: not
	given [3]int64 // the last index given, for each of run.Kinds
}

// slot is a kind's place in run.Kinds, -1 for another.
func slot(k run.Kind) int { return slices.Index(run.Kinds(), k) }

// The states as one byte each, which is also their place in the counts.
func runStates() []run.State {
	return []run.State{run.Waiting, run.Downloading, run.StoredRun, run.PartialRun, run.FailedRun}
}

func assetStates() []run.AssetState {
	return []run.AssetState{run.AssetWaiting, run.AssetVerified, run.AssetStored, run.AssetLost, run.AssetProvisional}
}

// ready reports whether the run waits for nothing but its manifest.
func (r *record) ready() bool { return r.Ended() && r.Open() == 0 && !r.State.Settled() }

func encodeRun(r *record) []byte {
	e := encoder{b: make([]byte, 2, 96)}
	e.b[0], e.b[1] = codecVersion, byte(slices.Index(runStates(), r.State))
	e.time(1, r.HandedIn)
	e.num(2, r.due)
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) { // the same labels are the same bytes
		e.each(3, name)
		e.each(4, r.Labels[name])
	}
	e.text(5, r.App)
	e.text(6, string(r.Status))
	e.text(7, r.StartedAt)
	e.text(8, r.CompletedAt)
	e.text(9, r.ErrorMessage)
	e.fields(10, func(e *encoder) { encodePolls(e, r.Polls) })
	e.time(11, r.EndedAt)
	e.num(12, int64(r.EndedService))
	e.text(13, r.GaveUp)
	e.text(14, r.Dir)
	e.text(15, string(r.Outcome))
	e.num(16, int64(r.Revision))
	e.time(17, r.SettledAt)
	e.num(18, int64(r.Assets))
	e.num(19, int64(r.Stored))
	e.num(20, int64(r.Lost))
	e.num(21, r.Bytes)
	for i, n := range r.given {
		e.num(22+i, n)
	}
	e.num(25, int64(r.Marked))
	e.text(26, r.BadRecord)
	e.num(31, int64(r.Ignored))
	e.num(32, r.Submission)
	return e.b
}

func decodeRun(key, value []byte) (record, error) {
	r := record{Run: run.Run{ID: run.ID(key)}}
	d, state, err := open(value, len(runStates()))
	if err != nil {
		return record{}, broken("run", key, err)
	}
	r.State = runStates()[state]
	label := ""
	for d.next() {
		switch d.field {
		case 1:
			r.HandedIn = d.time()
		case 2:
			r.due = d.n
		case 3:
			label = d.text()
		case 4:
			if r.Labels == nil {
				r.Labels = make(map[string]string)
			}
			r.Labels[label] = d.text()
		case 5:
			r.App = d.text()
		case 6:
			r.Status = run.Status(d.text())
		case 7:
			r.StartedAt = d.text()
		case 8:
			r.CompletedAt = d.text()
		case 9:
			r.ErrorMessage = d.text()
		case 10:
			d.fields(func(d *decoder) { decodePolls(d, &r.Polls) })
		default:
			decodeEnd(d, &r)
		}
	}
	if d.err != nil {
		return record{}, broken("run", key, d.err)
	}
	return r, nil
}

func decodeEnd(d *decoder, r *record) {
	switch d.field {
	case 11:
		r.EndedAt = d.time()
	case 12:
		r.EndedService = d.duration()
	case 13:
		r.GaveUp = d.text()
	case 14:
		r.Dir = d.text()
	case 15:
		r.Outcome = run.Outcome(d.text())
	case 16:
		r.Revision = d.num()
	case 17:
		r.SettledAt = d.time()
	case 18:
		r.Assets = d.num()
	case 19:
		r.Stored = d.num()
	case 20:
		r.Lost = d.num()
	case 21:
		r.Bytes = d.n
	case 22, 23, 24:
		r.given[d.field-22] = d.n
	case 25:
		r.Marked = d.num()
	case 26:
		r.BadRecord = d.text()
	case 31:
		r.Ignored = d.num()
	case 32:
		r.Submission = d.n
	}
}

func encodePolls(e *encoder, p run.Polls) {
	e.num(1, int64(p.Count))
	e.num(2, int64(p.Failures))
	e.time(3, p.Answered)
	e.num(4, int64(p.Empty))
	e.fields(5, func(e *encoder) { encodeWatch(e, p.EmptyFor) })
	e.num(6, int64(p.NotFound))
	e.fields(7, func(e *encoder) { encodeWatch(e, p.MissingFor) })
	e.fields(8, func(e *encoder) { encodeWatch(e, p.OpenFor) })
	e.flag(9, p.NoAccess)
	e.text(10, p.LastError)
}

func decodePolls(d *decoder, p *run.Polls) {
	switch d.field {
	case 1:
		p.Count = d.num()
	case 2:
		p.Failures = d.num()
	case 3:
		p.Answered = d.time()
	case 4:
		p.Empty = d.num()
	case 5:
		d.fields(func(d *decoder) { decodeWatch(d, &p.EmptyFor) })
	case 6:
		p.NotFound = d.num()
	case 7:
		d.fields(func(d *decoder) { decodeWatch(d, &p.MissingFor) })
	case 8:
		d.fields(func(d *decoder) { decodeWatch(d, &p.OpenFor) })
	case 9:
		p.NoAccess = d.flag()
	case 10:
		p.LastError = d.text()
	}
}

func encodeWatch(e *encoder, s run.Stopwatch) {
	e.num(1, int64(s.Total))
	e.num(2, int64(s.Mark))
	e.flag(3, s.Running)
}

func decodeWatch(d *decoder, s *run.Stopwatch) {
	switch d.field {
	case 1:
		s.Total = d.duration()
	case 2:
		s.Mark = d.duration()
	case 3:
		s.Running = d.flag()
	}
}

// open reads what stands before the fields: the version and the state.
func open(value []byte, states int) (*decoder, int, error) {
	if len(value) < 2 || value[0] != codecVersion || int(value[1]) >= states {
		return nil, 0, errCodec
	}
	return &decoder{b: value[2:]}, int(value[1]), nil
}

// broken is a record that the engine read whole and that is garbage all the same.
func broken(what string, key []byte, err error) error {
	return kv.Damaged(fmt.Sprintf("%s %.100q: %v", what, key, err), err)
}

// at is a time from a key.
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
