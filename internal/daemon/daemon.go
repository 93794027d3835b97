// Package daemon joins the stages: it builds them from the configuration, owns
// the scheduler, and starts and stops everything in an order.
//
// It guarantees that one budget bounds a stop, that nothing is handed to a stage
// that has ended, that the queue closes last, and that log lines and health come
// from the one stream of events the stages tell. What happens to runs and assets
// is the stages' work.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/admin"
	"github.com/assetd/assetd/internal/daemon/logging"
	"github.com/assetd/assetd/internal/daemon/maintenance"
	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/schedule"
	"github.com/assetd/assetd/internal/server"
)

// Options are what a daemon is started with.
type Options struct {
	Config  *config.Config
	Key     string // the API key; empty: the API refuses, told loudly, and nothing else happens
	Secrets Secrets
	Log     *zap.Logger
	Version string
	Built   time.Time        // when this program was; zero: nobody knows
	Reload  <-chan os.Signal // each value: read configuration and key again
	// Load reads configuration and key anew; an error leaves everything as it is.
	Load func() (*config.Config, string, error)
	// Relog takes the log's new level and format.
	Relog func(c config.Log)
}

// Secrets are those of the HTTP side; empty ones are not set.
type Secrets struct {
	Token, AddToken string
	Webhook         [][]byte // keys, any of which may have signed
}

// overtime is what a stop may take beyond shutdown_grace: for whole assets to get
// their names and runs their manifests. The unit's TimeoutStopSec is longer.
const overtime = 2 * time.Second

// ErrStuck means that a stop took longer than its budget; what was not done goes
// on at the next start.
var ErrStuck = errors.New("not stopped within shutdown_grace: a file system or a commit hangs")

// Run runs the daemon until ctx ends and everything has stopped. It returns an
// error when it could not start, when the queue cannot go on, or ErrStuck.
func Run(ctx context.Context, o Options) error {
	d, err := open(o)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	select {
	case err := <-done:
		return errors.Join(err, d.close())
	case <-ctx.Done():
	}
	d.notify.stopping("finishing transfers")
	d.log.Info("stopping", zap.Duration("grace", d.cfg.ShutdownGrace))
	late := time.NewTimer(d.cfg.ShutdownGrace + overtime)
	defer late.Stop()
	select {
	case err := <-done:
		return errors.Join(err, d.close())
	case <-late.C:
		return ErrStuck // the process ends; nothing that is not safe on disk counts as done
	}
}

// daemon is what is open while it runs.
type daemon struct {
	Options
	cfg       *config.Config // as it was at the start
	current   *config.Config // as it was last read; reloads alone uses it
	key       string         // as it was last read; the same
	log       *zap.Logger
	told      []run.Tell // who hears of each event, in this order
	health    *health.Monitor
	notify    notifier
	queue     *queue.Queue
	pipeline  *pipeline.Pipeline
	inbox     *inbox.Inbox
	admin     *admin.Admin
	server    *server.Server
	backups   *maintenance.Backups
	retention *maintenance.Retention
	every     atomic.Int64 // drop.rescan, as it was last read
	hooks     *hooks
	gauges    *gauges
	look      chan struct{} // at the volume
	swept     bool          // watchVolume's alone
}

// open takes the state directory and builds the stages. Nothing runs yet.
func open(o Options) (*daemon, error) {
	d := &daemon{Options: o, cfg: o.Config, current: o.Config, key: o.Key, log: o.Log, told: []run.Tell{logging.NewEvents(o.Log).Log}, look: make(chan struct{}, 1)}
	c := o.Config
	// The drop directory first: what it makes above it lets its group pass.
	slow := time.AfterFunc(passLate, func() {
		o.Log.Error("the drop directory does not answer, the start waits for it: see its mount", zap.String("file", c.Drop.Dir))
	})
	_, err := inbox.Prepare(c.Drop.Dir)
	slow.Stop()
	if err != nil {
		return nil, fmt.Errorf("%w: set data_dir or drop.dir to a directory of yours (uid %d)", err, os.Getuid())
	}
	if err := pipeline.MakeStateDir(c.State.Dir); err != nil {
		return nil, err
	}
	metrics := server.NewMetrics(o.Version)
	events := server.NewEvents()
	d.told = append(d.told, counted(metrics), events.Tell)
	q, err := maintenance.OpenQueue(c, queue.Options{Tell: d.tell, Timed: metrics.Committed}, o.Log)
	if err != nil {
		return nil, err
	}
	d.queue, d.health = q, health.New(q)
	for _, w := range q.Warnings() {
		d.log.Warn(w)
	}
	if d.pipeline, err = pipeline.New(c, o.Key, q, q, pipeline.Observers{Polled: metrics.Polled, Synced: metrics.Synced}, d.tell); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	if d.hooks, err = newHooks(c, q, d.pipeline, d.tell, rand.Float64); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	d.inbox = inbox.New(inboxConfig(c), addWaking{q, d.pipeline.Poller.Wake}, d.tell)
	d.admin = admin.New(admin.Deps{
		Queue: q, Volume: d.pipeline.Volume, Emit: d.tell,
		Retried:  func(id run.ID) { d.pipeline.Poller.Forget(id); d.pipeline.Poller.Wake() },
		Removed:  func(id run.ID) { d.pipeline.Pool.Forget(id); d.pipeline.Poller.Forget(id) },
		Leftover: func() { signal(d.look) },
	})
	d.retention = maintenance.NewRetention(c, maintenance.RetentionDeps{
		History: q, DropDir: c.Drop.Dir, Clock: d.pipeline.ServerTime, Built: o.Built,
		Covered: func() time.Time { return d.backups.Covered() }, Leftover: func() { signal(d.look) }, Emit: d.tell,
	})
	d.backups = maintenance.NewBackups(c, q, d.retention.KeepFiles, d.tell)
	d.gauges = &gauges{health: d.health, pipeline: d.pipeline, inbox: d.inbox, state: c.State.Dir}
	metrics.Watch(d.gauges)
	d.server = d.newServer(metrics, events)
	return d, nil
}

// tell is the one stream of events: health, log and all that is told to others are
// made from it.
func (d *daemon) tell(e run.Event) {
	if d.hooks != nil {
		d.hooks.note(e)
	}
	if d.health != nil && !d.health.Note(e) { // the queue tells what it found while it opens
		return
	}
	for _, tell := range d.told {
		tell(e)
	}
}

// addWaking is the queue as the inbox sees it: what is handed in is polled at once.
type addWaking struct {
	*queue.Queue
	wake func()
}

func (a addWaking) Add(ctx context.Context, ids []run.HandIn) (run.Taken, error) {
	taken, err := a.Queue.Add(ctx, ids)
	if taken.New > 0 {
		a.wake()
	}
	return taken, err
}

func inboxConfig(c *config.Config) inbox.Config {
	return inbox.Config{Dir: c.Drop.Dir, Settle: c.Drop.Settle, Rescan: c.Drop.Rescan}
}

// run starts the stages and stops them when ctx ends: intake and ticks first,
// then the engine in its own order.
func (d *daemon) run(ctx context.Context) error {
	if err := d.useVolume(ctx); err != nil {
		return err
	}
	listener, err := d.server.Listen()
	if err != nil {
		return err
	}
	ticks, err := schedule.Start(d.jobs(), d.log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	// The socket answers, and the watchdog is fed, until the last stage has ended.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.inbox.Run(ctx) })
	g.Go(func() error { return d.reloads(ctx) })
	g.Go(func() error { return d.watchVolume(ctx) })
	g.Go(func() error { return d.backups.Run(ctx) })
	g.Go(func() error { return d.retention.Run(ctx) })
	g.Go(func() error { return d.server.Run(serving, listener) })
	g.Go(func() error { return d.notify.watchdog(serving, func() bool { return d.health.Alive().OK }) })
	g.Go(func() error { d.announce(ctx); return nil })
	g.Go(func() error { return d.hooks.run(ctx, d.cfg.ShutdownGrace-grant(d.cfg.ShutdownGrace)) })
	g.Go(func() error {
		<-ctx.Done()
		err := ticks.Close()
		clock.Sleep(hard, d.cfg.ShutdownGrace-grant(d.cfg.ShutdownGrace), nil)
		cut()
		return err
	})
	g.Go(func() error {
		defer stopServing()
		defer cut()
		return d.pipeline.Run(ctx, hard)
	})
	return g.Wait()
}

// grant is the end of the grace that transfers do not get: what they brought has
// to be put away in it.
func grant(grace time.Duration) time.Duration { return min(time.Second, grace/4) }

// useVolume takes the volume into use. One that is offline is told, and work for
// it waits. The error is a setting to mend.
func (d *daemon) useVolume(ctx context.Context) error {
	err := d.pipeline.Volume.Check() // which goes on with the start, and does not hang
	if errors.Is(err, run.ErrVolumeOffline) {
		d.tell(run.Event{Kind: run.VolumeOffline, File: d.cfg.Storage.Dir, Err: err, Hint: "runs are taken and polled; downloads wait until it is back"})
		return nil
	}
	if err != nil {
		return err
	}
	d.gauges.look()
	signal(d.look) // what can take long on a large volume waits until the daemon is ready
	return nil
}

// sweep clears the volume of what nobody needs, once it is there.
func (d *daemon) sweep(ctx context.Context) {
	d.swept = true
	n, err := d.pipeline.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Warn("parts that nobody needs could not be removed", zap.Error(err))
	}
	if n > 0 {
		d.log.Info("parts that nobody needs were removed", zap.Int(logging.KeyCount, n))
	}
}

// watchVolume looks at the volume at each tick, so that its state is known also
// while nothing waits for it. It may hang, which a tick must not.
func (d *daemon) watchVolume(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.look:
		}
		switch err := d.pipeline.Volume.Check(); {
		case err == nil:
			d.tell(run.Event{Kind: run.VolumeBack, File: d.cfg.Storage.Dir})
			if !d.swept {
				d.sweep(ctx)
			}
			d.gauges.look()
			if err := d.admin.Clear(ctx); err != nil && ctx.Err() == nil {
				d.log.Warn("what removed runs left on the volume could not be cleared", zap.Error(err))
			}
		case errors.Is(err, run.ErrVolumeOffline):
			d.tell(run.Event{Kind: run.VolumeOffline, File: d.cfg.Storage.Dir, Err: err})
		}
	}
}

// signal wakes who waits for c, if anybody does.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce says that the daemon is up, once what lay in the drop directory at the
// start has been looked at.
func (d *daemon) announce(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.inbox.Scanned():
	}
	d.health.Started()
	d.log.Info("assetd is ready", zap.String("version", d.Version), zap.String("drop_dir", d.cfg.Drop.Dir),
		zap.String("storage_dir", d.cfg.Storage.Dir), zap.String("state_dir", d.cfg.State.Dir), zap.String("api", d.cfg.API.BaseURL))
	d.notify.ready("taking runs from " + d.cfg.Drop.Dir)
}

// jobs are the periodic jobs: those of the pipeline and the daemon's own.
func (d *daemon) jobs() []schedule.Job {
	return append(d.pipeline.Jobs(d.log), []schedule.Job{
		{Name: "alive", Every: time.Second, Do: func(context.Context) { d.health.Tick() }},
		{Name: "marker", Every: 5 * time.Second, Do: func(context.Context) { signal(d.look) }},
		{Name: "oldest", Every: time.Second, Do: func(ctx context.Context) { d.seekOldest(ctx) }},
		{Name: "rescan", Every: time.Second, Do: d.rescan()},
		{Name: "intake", Every: time.Second, Do: d.watchPasses()},
	}...)
}

// watchPasses sees that the inbox gets on.
func (d *daemon) watchPasses() func(context.Context) {
	p := &passes{
		dir: d.cfg.Drop.Dir, last: d.inbox.LastPass, tell: d.tell,
		rescan: func() time.Duration { return time.Duration(d.every.Load()) },
	}
	return func(context.Context) { p.watch() }
}

// seekOldest is a step of the search for the oldest open run, for the metrics alone:
// what is wrong with the queue is told where it matters.
func (d *daemon) seekOldest(ctx context.Context) { _ = d.queue.SeekOldest(ctx) }

// close ends what run left open, the queue last.
func (d *daemon) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), overtime)
	defer cancel()
	if d.queue.Err() == nil {
		if err := d.pipeline.SaveService(ctx); err != nil {
			d.log.Warn("service clock not saved", zap.Error(err))
		}
	}
	d.pipeline.Close()
	err := d.queue.Close()
	if err != nil {
		return fmt.Errorf("closing the queue: %w", err)
	}
	d.log.Info("stopped")
	return nil
}
