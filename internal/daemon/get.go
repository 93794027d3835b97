package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/schedule"
)

// GetOptions say what to fetch in the foreground. All of it is required.
type GetOptions struct {
	Config   *config.Config // storage.dir is the output directory
	Key      string
	IDs      []run.HandIn
	Log      *zap.Logger               // for what a person need not see
	Tell     run.Tell                  // for what a person sees
	Progress func([]download.Transfer) // called twice a second
	Pulse    func([]run.Run)           // called every minute: how those asked for stand
	Waits    func([]Wait)              // called every ten seconds: what they wait for, empty where nothing is
}

// ErrKeyRefused means that the API did not accept the key.
var ErrKeyRefused = errors.New("the API does not accept the key")

// getNotFound is how long get asks for a run that the API does not know: a person
// waits, and a mistyped ID never appears.
const getNotFound = 30 * time.Second

// Get fetches runs until all of them are settled, over a queue of its own below
// the output directory, and returns how each of them stands. It goes on from what
// an earlier call left of them; other runs that an earlier call left are reported and
// not fetched. Queue and marker are removed when nothing is open in them.
// When ctx ends first, what is not done is kept for the next call and ctx's cause
// is the error.
func Get(ctx context.Context, o GetOptions) ([]run.Run, error) {
	g, err := openGet(o)
	if err != nil {
		return nil, err
	}
	runs, settled, err := g.run(ctx)
	err = errors.Join(err, g.queue.Close())
	if err == nil && settled {
		if err = removeGet(o.Config.Storage.Dir, g.state); err != nil {
			err = fmt.Errorf("all is settled, but what get needed beside its files could not be removed (the next call tries again): %w", err)
		}
	}
	return runs, err
}

// getter is one call of Get.
type getter struct {
	GetOptions
	mine     map[run.ID]bool // asked for by this call; read only
	cfg      config.Config   // as this call works with it
	state    string
	queue    *queue.Queue
	pipeline *pipeline.Pipeline
	health   *health.Monitor
	cancel   context.CancelCauseFunc

	reasons reasons

	mu    sync.Mutex
	done  chan struct{}     // closed and replaced at each settled run
	words map[run.ID]string // the API's, as told
	key   keyCheck
}

func openGet(o GetOptions) (*getter, error) {
	output := o.Config.Storage.Dir
	if _, err := durable.MkdirAll(output, 0o755); err != nil {
		return nil, fmt.Errorf("output directory %s: %w", output, err)
	}
	g := &getter{GetOptions: o, mine: map[run.ID]bool{}, done: make(chan struct{}), words: map[run.ID]string{}}
	g.key.runs = make(map[run.ID]bool, len(o.IDs))
	for _, h := range o.IDs {
		g.key.runs[h.ID], g.mine[h.ID] = false, true
	}
	var err error
	if g.state, g.queue, err = openGetQueue(o.Config, output); err != nil {
		return nil, err
	}
	g.health = health.New(g.queue)
	g.reasons = reasons{assets: map[run.Key]string{}, hosts: map[string]string{}}
	g.cfg = *o.Config
	g.cfg.Poll.NotFoundAfter = min(g.cfg.Poll.NotFoundAfter, getNotFound)
	if g.pipeline, err = pipeline.New(&g.cfg, o.Key, g.queue, named{g.queue, g.mine, g.stands, newMissing(g.cfg.Poll.NotFoundAfter)}, pipeline.Observers{}, g.tell); err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	return g, nil
}

// openGetQueue opens the queue of an output directory. A volume that belongs to a
// daemon has a marker and no queue of get's.
func openGetQueue(c *config.Config, output string) (string, *queue.Queue, error) {
	meta := filepath.Join(output, ".assetd")
	states := getStates(c, output)
	state := states[0]
	q, err := openUnlessOwned(meta, state)
	var unfit *queue.FilesystemError
	if errors.As(err, &unfit) { // bbolt cannot live on this kind of mount
		state = states[1]
		q, err = openUnlessOwned(meta, state)
	}
	if errors.Is(err, queue.ErrLocked) {
		return "", nil, fmt.Errorf("another assetd get works in %s: wait for it, or choose another --output", output)
	}
	return state, q, err
}

// getStates are where the queue of an output directory can be: in it, or, where bbolt
// cannot live on its mount, next to the data directory.
func getStates(c *config.Config, output string) []string {
	return []string{filepath.Join(output, ".assetd"), filepath.Join(filepath.Dir(c.DataDir), "assetd-get", run.Key{ID: output}.Hash())}
}

func openUnlessOwned(meta, state string) (*queue.Queue, error) {
	_, queueErr := os.Lstat(filepath.Join(state, "queue.db"))
	fresh := errors.Is(queueErr, os.ErrNotExist)
	mine := filepath.Join(meta, getMark)
	if _, err := os.Lstat(mine); err == nil && fresh {
		os.Remove(filepath.Join(meta, "volume")) //nolint:errcheck // a call that was killed while it removed its own; else the next step tells
	}
	for dir := filepath.Dir(meta); ; dir = filepath.Dir(dir) {
		_, err := os.Lstat(filepath.Join(dir, ".assetd", "volume"))
		if err == nil && (fresh || dir != filepath.Dir(meta)) {
			return nil, fmt.Errorf("%s is the volume of an assetd daemon: use assetd add, or choose another --output", dir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, err := durable.MkdirAll(meta, 0o755); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	if err := os.WriteFile(mine, []byte("assetd get works here\n"), 0o600); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	return queue.Open(state, queue.Options{})
}

// getMark tells get's own marker from a daemon's where its queue is gone: a call
// can be killed between removing the one and the other.
const getMark = "get"

func (g *getter) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.done
}

// run fetches everything that the queue holds.
func (g *getter) run(ctx context.Context) (runs []run.Run, settled bool, err error) {
	ctx, g.cancel = context.WithCancelCause(ctx)
	defer g.cancel(nil)
	if err := g.pipeline.Volume.Check(); err != nil { // which takes it into use
		return nil, false, err
	}
	if _, err := g.queue.Add(ctx, g.IDs); err != nil {
		return nil, false, err
	}
	if err := g.begin(ctx); err != nil {
		return nil, false, err
	}
	left, err := g.park(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := g.tellStart(ctx, left); err != nil {
		return nil, false, err
	}
	if _, err := g.pipeline.Sweep(ctx); err != nil {
		g.Log.Warn("parts that nobody needs could not be removed", zap.Error(err))
	}
	ticks, err := schedule.Start(g.pipeline.Jobs(g.Log), g.Log)
	if err != nil {
		return nil, false, err
	}
	err = g.work(ctx)
	err = errors.Join(err, ticks.Close())
	g.pipeline.Close()
	// The context may have ended: what stands in the queue is asked without it.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), overtime)
	defer cancel()
	open, openErr := g.open(late)
	runs, listErr := g.runs(late)
	return runs, open == 0, errors.Join(err, openErr, listErr)
}

// work runs the stages until nothing is open.
func (g *getter) work(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	group.Go(func() error { return g.pipeline.Run(working, working) })
	group.Go(func() error {
		defer stop()
		return g.wait(working)
	})
	group.Go(func() error { g.watch(working); return nil })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx) // nil where it has not ended
}

// wait returns when every run that was asked for is settled, or ctx ends.
func (g *getter) wait(ctx context.Context) error {
	for {
		next := g.next()
		runs, err := g.runs(ctx)
		if err != nil {
			return err
		}
		settled := 0
		for _, r := range runs {
			if r.State.Settled() {
				settled++
			}
		}
		if settled == len(runs) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

// open is how many runs are not settled.
func (g *getter) open(ctx context.Context) (int, error) {
	counts, err := g.queue.Counts(ctx)
	return counts.Runs[run.Waiting] + counts.Runs[run.Downloading], err
}

// runs is how the runs asked for stand.
func (g *getter) runs(ctx context.Context) ([]run.Run, error) {
	runs := make([]run.Run, 0, len(g.IDs))
	for _, h := range g.IDs {
		r, err := g.queue.Get(ctx, h.ID)
		if errors.Is(err, run.ErrUnknown) {
			continue // stopped before it was taken
		}
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// removeGet removes what Get needed besides the files it fetched. Quarantine stays:
// somebody may want to look at it.
func removeGet(output, state string) error {
	meta := filepath.Join(output, ".assetd")
	errs := []error{queue.Erase(state), os.RemoveAll(filepath.Join(meta, "parts")), os.RemoveAll(filepath.Join(meta, "volume")), os.RemoveAll(filepath.Join(meta, getMark))}
	for _, dir := range []string{state, meta} {
		if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}
