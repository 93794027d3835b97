package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is an outbox in memory.
type box struct {
	mu      sync.Mutex
	last    uint64
	notices map[uint64]run.Notice
	to      map[uint64]run.Hooks
	runs    map[run.ID]run.Run
	full    int // so many calls of Told fail
	most    int // ever handed out at a time
	looks   int // calls of Outbox
}

var errFull = errors.New("no room for the queue")

func newBox() *box {
	return &box{notices: map[uint64]run.Notice{}, to: map[uint64]run.Hooks{}, runs: map[run.ID]run.Run{}}
}

func (b *box) put(to run.Hooks, all ...run.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range all {
		b.last++
		n.Seq = b.last
		if n.At.IsZero() {
			n.At = time.Now().UTC()
		}
		b.notices[n.Seq], b.to[n.Seq] = n, to
	}
}

func (b *box) Outbox(_ context.Context, hook run.Hooks, after uint64, limit int) (found []run.Notice, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit > 1 { // one alone is read when it is sent
		b.looks++
	}
	for seq := after + 1; seq <= b.last && len(found) < limit; seq++ {
		if b.to[seq]&hook != 0 {
			found = append(found, b.notices[seq])
		}
	}
	b.most = max(b.most, len(found))
	return found, nil
}

// looked is how often the outbox was looked into, and how many notices were read at a
// time at most.
func (b *box) looked() (looks, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.looks, b.most
}

func (b *box) Told(_ context.Context, hook run.Hooks, seqs []uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full > 0 {
		b.full--
		return errFull
	}
	for _, seq := range seqs {
		if b.to[seq] &^= hook; b.to[seq] == 0 {
			delete(b.to, seq)
			delete(b.notices, seq)
		}
	}
	return nil
}

func (b *box) Get(_ context.Context, id run.ID) (run.Run, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, known := b.runs[id]
	if !known {
		return run.Run{}, run.ErrUnknown
	}
	return r, nil
}

func (b *box) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.notices)
}

// hook is a sender that does what a test says, and remembers what it was told.
type hook struct {
	mu     sync.Mutex
	do     func(ctx context.Context, m message) error
	tries  []try
	at, up int // under way, and at most so
}

type try struct {
	message
	at  time.Time
	err error
}

func (h *hook) name() string { return "hook" }
func (h *hook) close()       {}

func (h *hook) send(ctx context.Context, m message) error {
	h.mu.Lock()
	h.at++
	h.up = max(h.up, h.at)
	do := h.do
	h.mu.Unlock()
	at := time.Now()
	err := do(ctx, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at--
	h.tries = append(h.tries, try{m, at, err})
	return err
}

func (h *hook) does(do func(context.Context, message) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.do = do
}

func (h *hook) all() []try {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tries)
}

// taken is the kinds and runs that the hook took, in order.
func (h *hook) taken() (all []string) {
	for _, t := range h.all() {
		if t.err == nil {
			all = append(all, string(t.Run)+" "+string(t.Kind))
		}
	}
	return all
}

func takes(context.Context, message) error { return nil }

func refuses(context.Context, message) error { return errors.New("exit status 1") }

// desk is one target at work in a bubble.
type desk struct {
	*target
	box  *box
	hook *hook
	told *events
	stop func()
}

type events struct {
	mu  sync.Mutex
	all []run.Event
}

func (e *events) tell(ev run.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) of(kind run.EventKind) (found []run.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

func deps(b *box, told *events) Deps {
	return Deps{
		Outbox: b, Queue: "0123456789abcdef0123456789abcdef", Storage: "/srv/assets", Tell: told.tell, Now: time.Now,
		Random: func() float64 { return 1 }, Broken: func(err error) bool { return err != nil && !errors.Is(err, errFull) },
	}
}

// open puts a target to work on a box.
func open(t *testing.T, b *box, do func(context.Context, message) error) *desk {
	t.Helper()
	return openHolding(t, b, do, mostHeld)
}

// openHolding is open with another bound of what is in memory.
func openHolding(t *testing.T, b *box, do func(context.Context, message) error, held int) *desk {
	t.Helper()
	d := &desk{box: b, hook: &hook{do: do}, told: &events{}}
	d.target = newTarget(run.URLHook, deps(b, d.told))
	d.target.held = held
	d.configure(settings{sender: d.hook, giveUpAfter: 72 * time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	hard, cut := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.target.run(ctx, hard) }()
	var once sync.Once
	d.stop = func() {
		once.Do(func() {
			cancel()
			cut()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(d.stop)
	return d
}

// tell puts notices into the box, and says so.
func (d *desk) tell(all ...run.Notice) {
	d.box.put(run.URLHook, all...)
	d.wakeUp()
}
