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

// hooks notifies others of what happens. A notice that follows from a record of the queue is
// written into its outbox together with that record; hooks adds those that only the events
// of the stages show: assets at risk, and troubles that concern all runs. It is safe for
// concurrent use.
type hooks struct {
	queue    *queue.Queue
	notifier *notify.Notifier
	broken   func(error) bool
	wake     chan struct{}

	mu      sync.Mutex
	set     bool                    // there is a hook
	trouble map[run.NoticeKind]bool // was reported, or is pending, and has not ended
	pending []run.Notice            // to be written into the outbox
}

const (
	// maxPending bounds what waits while the queue cannot be written. Troubles do not count:
	// they are few, since an end removes its pending beginning.
	maxPending = 100
	// postRetry is the delay after a failed write.
	postRetry = 5 * time.Second
)

// newHooks returns the hooks of a configuration. The error is a secret that cannot be used,
// or the queue's.
func newHooks(c *config.Config, q *queue.Queue, e *pipeline.Pipeline, tell run.Tell, random func() float64) (*hooks, error) {
	h := &hooks{queue: q, broken: e.Broken, wake: make(chan struct{}, 1), trouble: map[run.NoticeKind]bool{}}
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
		h.trouble[k] = true
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

// configure applies other hooks. After an error nothing is changed.
func (h *hooks) configure(c *config.Config) error {
	settings, err := hookConfig(c)
	if err != nil {
		return err
	}
	if err := h.notifier.Configure(settings); err != nil {
		return err
	}
	h.use(settings.Hooks())
	h.notifier.Wake() // it drops the notices of a hook that is not set any more
	return nil
}

func (h *hooks) use(set run.Hooks) {
	h.queue.SetHooks(set)
	h.mu.Lock()
	h.set = set != 0
	h.mu.Unlock()
}

// note applies an event, also one that is no news to this process: an earlier one may have
// reported trouble whose end this one sees first.
func (h *hooks) note(e run.Event) {
	switch e.Kind {
	case run.RunSettled, run.AssetGone: // the queue has written its notice
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
		for _, k := range endings(e.Kind) {
			h.end(k)
		}
	}
}

// endings returns the ends of troubles that an event shows.
func endings(k run.EventKind) []run.NoticeKind {
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

// begin reports a trouble once, end its end if its beginning was reported. The lock is held.
func (h *hooks) begin(k run.NoticeKind, e run.Event) {
	if h.trouble[k] {
		return
	}
	h.trouble[k] = true
	text := e.Text()
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	h.post(run.Notice{Kind: k, Text: text})
}

func (h *hooks) end(k run.NoticeKind) {
	began := k.Ends()
	if !h.trouble[began] {
		return
	}
	delete(h.trouble, began)
	isBeginning := func(n run.Notice) bool { return n.Kind == began }
	if slices.ContainsFunc(h.pending, isBeginning) { // it was over before it was written
		h.pending = slices.DeleteFunc(h.pending, isBeginning)
		return
	}
	h.post(run.Notice{Kind: k})
}

// post queues a notice for the outbox. The lock is held.
func (h *hooks) post(n run.Notice) {
	if len(h.pending) >= maxPending && !n.Kind.Begins() && n.Kind.Ends() == "" {
		return
	}
	n.At = time.Now().UTC().Round(0)
	h.pending = append(h.pending, n)
	signal(h.wake)
}

// stopGrace is how long a hook may go on at a stop. One that is about to end need not run
// again at the next start, and one that hangs does not delay the stop. A notification that
// was cut off is sent again under the same key.
const stopGrace = time.Second

// run sends notifications until ctx ends. A hook that runs then gets stopGrace, or grace if
// that is less. The error is a queue that cannot go on.
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

// posts writes pending notices into the outbox until ctx ends, and once more then, if the
// queue can be written.
func (h *hooks) posts(ctx context.Context) error {
	for {
		err := h.write(ctx)
		if err != nil && h.broken(err) {
			return fmt.Errorf("writing a notice into the outbox: %w", err)
		}
		if ctx.Err() != nil {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = h.write(late) // the next start finds out the same
			return nil
		}
		again := time.NewTimer(time.Hour)
		if err != nil {
			again.Reset(postRetry)
		}
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-again.C:
		}
		again.Stop()
	}
}

// write writes the pending notices in order.
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
