package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/notify"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// hooks tells others what happens. What follows from a record of the queue stands
// in its outbox with that record; what only the stages know, coming losses and
// troubles that concern all runs, is put there from their events. Safe for
// concurrent use.
type hooks struct {
	queue    *queue.Queue
	notifier *notify.Notifier
	broken   func(error) bool
	wake     chan struct{}

	mu      sync.Mutex
	set     bool                    // somebody is to be told
	stands  map[run.NoticeKind]bool // troubles that others were told of, or are about to be
	pending []run.Notice            // on their way into the outbox
}

// mostPending bounds what waits for a queue that cannot be written; the troubles
// are few, since an end takes its beginning away.
const mostPending = 100

// postAgain is how long to wait for a queue that cannot be written.
const postAgain = 5 * time.Second

// newHooks makes the hooks of a configuration. The error is a secret that cannot
// be used, or the queue's.
func newHooks(c *config.Config, q *queue.Queue, e *pipeline.Pipeline, tell run.Tell, random func() float64) (*hooks, error) {
	h := &hooks{queue: q, broken: e.Broken, wake: make(chan struct{}, 1), stands: map[run.NoticeKind]bool{}}
	settings, err := hookConfig(c)
	if err != nil {
		return nil, err
	}
	h.notifier, err = notify.New(settings, notify.Deps{
		Outbox: q, Queue: q.ID(), Storage: c.Storage.Dir, Environ: os.Environ(), Tell: tell, Random: random, Broken: e.Broken,
		Now: func() time.Time { return e.Clock.Server(e.API.Host()) },
	})
	if err != nil {
		return nil, err
	}
	standing, err := q.Standing(context.Background())
	if err != nil {
		return nil, err
	}
	for _, k := range standing {
		h.stands[k] = true
	}
	h.use(settings.Hooks())
	return h, nil
}

func hookConfig(c *config.Config) (notify.Config, error) {
	secret, err := c.Hook.Secret()
	if err != nil {
		return notify.Config{}, err
	}
	return notify.Config{Command: c.Hook.Argv(), URL: c.Hook.URL, Secret: secret, Timeout: c.Hook.Timeout, GiveUpAfter: c.Hook.GiveUpAfter}, nil
}

// configure takes other hooks; with an error nothing was changed.
func (h *hooks) configure(c *config.Config) error {
	settings, err := hookConfig(c)
	if err != nil {
		return err
	}
	if err := h.notifier.Configure(settings); err != nil {
		return err
	}
	h.use(settings.Hooks())
	h.notifier.Wake() // what was written meanwhile for one that is not set any more goes
	return nil
}

func (h *hooks) use(set run.Hooks) {
	h.queue.SetHooks(set)
	h.mu.Lock()
	h.set = set != 0
	h.mu.Unlock()
}

// note takes an event, also one that is no news to this process: an earlier one may
// have told of a trouble whose end this one sees first.
func (h *hooks) note(e run.Event) {
	switch e.Kind {
	case run.RunSettled, run.AssetGone: // the queue has written it
		h.notifier.Wake()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.set {
		return
	}
	switch e.Kind {
	case run.AtRisk:
		h.post(run.Notice{
			Kind: run.AssetsAtRisk, Runs: e.Runs, Count: e.Count, Bytes: e.Bytes, Host: e.Host, Text: e.Note,
			Dies: time.Now().Add(e.Took).UTC(),
		})
	case run.RiskOver:
		h.post(run.Notice{Kind: run.AssetsSafe})
	case run.DiskLow:
		h.begin(run.NoRoomLeft, e)
	case run.VolumeOffline:
		h.begin(run.VolumeGone, e)
	case run.APIRefused:
		h.begin(run.KeyRefused, e)
	default:
		for _, k := range proves(e.Kind) {
			h.end(k)
		}
	}
}

// proves is the ends of troubles that an event shows.
func proves(k run.EventKind) []run.NoticeKind {
	switch k {
	case run.APIBack, run.RunEnded:
		return []run.NoticeKind{run.KeyAccepted}
	case run.VolumeBack, run.RunSettled:
		return []run.NoticeKind{run.VolumeOnline}
	case run.DiskBack:
		return []run.NoticeKind{run.RoomAgain}
	case run.AssetKept:
		return []run.NoticeKind{run.VolumeOnline, run.RoomAgain}
	}
	return nil
}

// begin and end have others told of a trouble once. The lock is held.
func (h *hooks) begin(k run.NoticeKind, e run.Event) {
	if h.stands[k] {
		return
	}
	h.stands[k] = true
	text := e.Text()
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	h.post(run.Notice{Kind: k, Text: text})
}

func (h *hooks) end(k run.NoticeKind) {
	began := k.Ends()
	if !h.stands[began] {
		return
	}
	delete(h.stands, began)
	waits := func(n run.Notice) bool { return n.Kind == began }
	if slices.ContainsFunc(h.pending, waits) { // it was over before it could be written
		h.pending = slices.DeleteFunc(h.pending, waits)
		return
	}
	h.post(run.Notice{Kind: k})
}

// post has a notice written into the outbox soon. The lock is held.
func (h *hooks) post(n run.Notice) {
	if len(h.pending) >= mostPending && !n.Kind.Begins() && n.Kind.Ends() == "" {
		return
	}
	n.At = time.Now().UTC().Round(0)
	h.pending = append(h.pending, n)
	signal(h.wake)
}

// stopGrace is how long a hook that works at a stop may go on: one that is about to end is
// not run again at the next start, and one that hangs holds up nothing. What was cut off is
// sent again under the same key.
const stopGrace = time.Second

// run sends until ctx ends. A hook that works then gets stopGrace, or grace where that is
// less. The error is a queue that cannot go on.
func (h *hooks) run(ctx context.Context, grace time.Duration) error {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.posts(ctx) })
	g.Go(func() error {
		defer cut()
		return h.notifier.Run(ctx, hard)
	})
	g.Go(func() error {
		<-ctx.Done()
		clock.Sleep(hard, min(grace, stopGrace), nil)
		cut()
		return nil
	})
	return g.Wait()
}

// posts writes what others are to be told into the outbox, until ctx ends; what
// came before that included, where the queue takes it.
func (h *hooks) posts(ctx context.Context) error {
	for {
		err := h.write(ctx)
		if err != nil && h.broken(err) {
			return fmt.Errorf("noting what others are to be told: %w", err)
		}
		if ctx.Err() != nil {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = h.write(late) // it is found out anew at the next start
			return nil
		}
		again := time.NewTimer(time.Hour)
		if err != nil {
			again.Reset(postAgain)
		}
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-again.C:
		}
		again.Stop()
	}
}

// write writes what is pending, in order.
func (h *hooks) write(ctx context.Context) error {
	for {
		h.mu.Lock()
		if len(h.pending) == 0 {
			h.mu.Unlock()
			return nil
		}
		n := h.pending[0]
		h.pending = h.pending[1:]
		h.mu.Unlock()
		if err := h.queue.Post(ctx, n); err != nil {
			h.mu.Lock()
			h.pending = slices.Insert(h.pending, 0, n)
			h.mu.Unlock()
			return err
		}
		h.notifier.Wake()
	}
}
