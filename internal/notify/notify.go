// Package notify tells others what happened: it brings the notices of the outbox
// to a command and to a URL.
//
// It guarantees that each notice is told at least once, or dropped with a line
// that names it once it is as old as Config.GiveUpAfter and is not taken still;
// that it is told under the same key at every try and after every restart; and
// that notices of one run are told in the order in which things happened, while
// those of other runs go on beside them. Each hook goes at its own pace. Failures are
// told apart: a notice that the hook refuses (4xx, an exit code) is tried again by itself
// and holds up no other run's; a hook that does not answer (5xx, network) is probed at
// growing distances, at most mostProbe apart, however much waits for it. A try that takes
// long leaves its place to others (pick). What waits is in the queue; of at most mostHeld
// notices a few hundred bytes each are in memory.
//
// Nobody waits for it: what a hook does, or does not, holds up no other stage and
// takes nothing back. What is written into the outbox, and when, is the queue's.
package notify

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/run"
)

// Outbox is where notices wait, in the words of the queue.
type Outbox interface {
	Outbox(ctx context.Context, hook run.Hooks, after uint64, limit int) ([]run.Notice, error)
	Told(ctx context.Context, hook run.Hooks, seqs []uint64) error
	Get(ctx context.Context, id run.ID) (run.Run, error)
}

// Config says who is told. All of it can change while the notifier runs.
type Config struct {
	Command     []string      // program and arguments; empty: no command is run
	URL         string        // is sent everything by POST; may hold a token; empty: nothing is sent
	Secret      string        // of Standard Webhooks: base64, with or without whsec_ before it; empty: unsigned
	Timeout     time.Duration // of one try
	GiveUpAfter time.Duration
}

// Hooks is the hooks that are set.
func (c Config) Hooks() (set run.Hooks) {
	if len(c.Command) > 0 {
		set |= run.CommandHook
	}
	if c.URL != "" {
		set |= run.URLHook
	}
	return set
}

// Deps is what the notifier works with; all of it is required.
type Deps struct {
	Outbox  Outbox
	Queue   string   // the queue's ID, which makes keys unique
	Storage string   // storage.dir, absolute
	Environ []string // of this process, of which a command gets what it needs
	Tell    run.Tell
	Now     func() time.Time // by the server's clock: what ends a notice
	Random  func() float64   // from 0 to 1
	Broken  func(error) bool // the queue cannot go on
}

// What the notifier tells. Err is the hook's own words, Note the notice and the hook.
const (
	Told      run.EventKind = "others were told"
	Failed    run.EventKind = "hook failed, tried again later"
	Back      run.EventKind = "hook works again"
	Gone      run.EventKind = "hook.url answered that it is gone, nothing more is sent there"
	GivenUp   run.EventKind = "hook given up, others were not told"
	Forgotten run.EventKind = "hook no longer set, what waited for it was dropped"
	Said      run.EventKind = "hook.command says" // Note is the line
)

// Notifier brings notices to the hooks. Run may be called once; the other methods
// are safe for concurrent use.
type Notifier struct {
	targets []*target
}

// New makes a notifier. The error is a secret that is none.
func New(c Config, d Deps) (*Notifier, error) {
	n := &Notifier{targets: []*target{newTarget(run.CommandHook, d), newTarget(run.URLHook, d)}}
	return n, n.Configure(c)
}

// Configure takes other hooks from the next try on; each that is set begins as if
// nothing had failed. What waits for one that is not set any more is dropped. With
// an error nothing was changed.
func (n *Notifier) Configure(c Config) error {
	senders, err := n.senders(c)
	if err != nil {
		return err
	}
	for i, t := range n.targets {
		t.configure(settings{sender: senders[i], giveUpAfter: c.GiveUpAfter})
	}
	return nil
}

func (n *Notifier) senders(c Config) ([]sender, error) {
	all := make([]sender, len(n.targets))
	for i, t := range n.targets {
		switch {
		case c.Hooks()&t.hook == 0:
		case t.hook == run.CommandHook:
			all[i] = newCommand(c.Command, c.Timeout, t.Deps)
		default:
			p, err := newPost(c.URL, c.Secret, c.Timeout, t.Now)
			if err != nil {
				return nil, err
			}
			all[i] = p
		}
	}
	return all, nil
}

// Wake has the outbox looked at once more.
func (n *Notifier) Wake() {
	for _, t := range n.targets {
		t.wakeUp()
	}
}

// Run tells until ctx ends; a hook that works then may go on until hard ends, and
// is killed after that: it is told again at the next start. The error is a queue
// that cannot go on.
func (n *Notifier) Run(ctx, hard context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range n.targets {
		g.Go(func() error { return t.run(ctx, hard) })
	}
	return g.Wait()
}
