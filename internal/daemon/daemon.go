// Package daemon starts the stages, keeps them running and stops them.
//
// It guarantees that shutdown_grace bounds a stop, that a stage ends only after those that
// hand work to it have ended, that the queue closes last, and that log lines, health,
// metrics and notifications all come from the one stream of events of the stages. What
// happens to runs and assets is the stages' work (see package pipeline).
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
	Key     string // the API key; without one the API refuses every poll, which is reported
	Secrets Secrets
	Log     *zap.Logger
	Version string
	Built   time.Time        // when this program was built; zero: unknown
	Reload  <-chan os.Signal // at each value Load is called
	// Load reads configuration and key again; after an error nothing is changed.
	Load func() (*config.Config, string, error)
	// Relog applies a new level and format to the log.
	Relog func(c config.Log)
}

// Secrets are those of the HTTP side; an empty one is not set.
type Secrets struct {
	Token, AddToken string
	Webhook         [][]byte // keys, any of which may have signed
}

// closeTime is how much longer than shutdown_grace a stop may take: to name complete assets,
// write manifests and close the queue. The unit's TimeoutStopSec is longer than both.
const closeTime = 2 * time.Second

// ErrStuck means that a stop took longer than it may. What was not done is done after the
// next start.
var ErrStuck = errors.New("not stopped within shutdown_grace: a file system or a commit hangs")

// Run runs the daemon until ctx ends and everything has stopped. It returns an error if it
// cannot start, if the queue cannot go on, or ErrStuck.
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
	d.systemd.stopping("finishing transfers")
	d.log.Info("stopping", zap.Duration("grace", d.cfg.ShutdownGrace))
	late := time.NewTimer(d.cfg.ShutdownGrace + closeTime)
	defer late.Stop()
	select {
	case err := <-done:
		return errors.Join(err, d.close())
	case <-late.C:
		return ErrStuck // the process ends; only what is safely on disk counts as done
	}
}

// daemon is what is open while it runs.
type daemon struct {
	Options
	cfg       *config.Config // as it was at the start
	current   *config.Config // as it was read last; used by reloads alone
	key       string         // likewise
	log       *zap.Logger
	listeners []run.Tell // take each event, in this order
	health    *health.Monitor
	systemd   systemd
	queue     *queue.Queue
	pipeline  *pipeline.Pipeline
	inbox     *inbox.Inbox
	admin     *admin.Admin
	server    *server.Server
	backups   *maintenance.Backups
	retention *maintenance.Retention
	rescan    atomic.Int64 // drop.rescan, as it was read last
	hooks     *hooks
	gauges    *gauges

	checkVolume chan struct{} // wakes watchVolume
}

// open makes the directories, opens the queue and builds the stages. Nothing runs yet.
func open(o Options) (*daemon, error) {
	c := o.Config
	d := &daemon{
		Options: o, cfg: c, current: c, key: o.Key, log: o.Log,
		listeners: []run.Tell{logging.NewEvents(o.Log).Log}, checkVolume: make(chan struct{}, 1),
	}
	d.rescan.Store(int64(c.Drop.Rescan))
	// The drop directory comes first: it makes the directories above it accessible to its
	// group.
	slow := time.AfterFunc(scanDelay, func() {
		o.Log.Error("the drop directory does not answer, the start waits for it: see its mount", zap.String(logging.KeyFile, c.Drop.Dir))
	})
	_, err := inbox.Prepare(c.Drop.Dir)
	slow.Stop()
	if err != nil {
		return nil, fmt.Errorf("%w: set data_dir or drop.dir to a directory of yours (uid %d)", err, os.Getuid())
	}
	if err := pipeline.MakeStateDir(c.State.Dir); err != nil {
		return nil, err
	}
	metrics, events := server.NewMetrics(o.Version), server.NewEvents()
	d.listeners = append(d.listeners, countEvents(metrics), events.Tell)
	q, err := maintenance.OpenQueue(c, queue.Options{Tell: d.emit, Timed: metrics.Committed}, o.Log)
	if err != nil {
		return nil, err
	}
	d.queue, d.health = q, health.New(q)
	for _, w := range q.Warnings() {
		d.log.Warn(w)
	}
	if d.pipeline, err = pipeline.New(c, o.Key, q, q, pipeline.Observers{Polled: metrics.Polled, Synced: metrics.Synced}, d.emit); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	if d.hooks, err = newHooks(c, q, d.pipeline, d.emit, rand.Float64); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	d.inbox = inbox.New(inboxConfig(c), wakingQueue{q, d.pipeline.Poller.Wake}, d.emit)
	d.admin = admin.New(admin.Deps{
		Queue: q, Volume: d.pipeline.Volume, Emit: d.emit,
		Retried:  func(id run.ID) { d.pipeline.Poller.Forget(id); d.pipeline.Poller.Wake() },
		Removed:  func(id run.ID) { d.pipeline.Pool.Forget(id); d.pipeline.Poller.Forget(id) },
		Leftover: func() { signal(d.checkVolume) },
	})
	d.retention = maintenance.NewRetention(c, maintenance.RetentionDeps{
		History: q, DropDir: c.Drop.Dir, Clock: d.pipeline.ServerTime, Built: o.Built,
		Covered: func() time.Time { return d.backups.Covered() }, Leftover: func() { signal(d.checkVolume) }, Emit: d.emit,
	})
	d.backups = maintenance.NewBackups(c, q, d.retention.KeepFiles, d.emit)
	d.gauges = &gauges{health: d.health, pipeline: d.pipeline, inbox: d.inbox, state: c.State.Dir}
	metrics.Watch(d.gauges)
	d.server = d.newServer(metrics, events)
	return d, nil
}

// emit passes an event to all who listen. Hooks also take events that are no news to this
// process: an earlier one may have reported trouble whose end this one sees first.
func (d *daemon) emit(e run.Event) {
	if d.hooks != nil { // the queue emits events while it opens
		d.hooks.note(e)
	}
	if d.health != nil && !d.health.Note(e) {
		return
	}
	for _, listener := range d.listeners {
		listener(e)
	}
}

// run starts the stages, and stops them when ctx ends: intake and periodic jobs first, then
// the pipeline in its own order, the server last.
func (d *daemon) run(ctx context.Context) error {
	if err := d.useVolume(); err != nil {
		return err
	}
	listener, err := d.server.Listen()
	if err != nil {
		return err
	}
	jobs, err := schedule.Start(d.jobs(), d.log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	// The socket answers, and systemd's watchdog is fed, until the last stage has ended.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	// Transfers may go on for drain after ctx has ended. The rest of the grace is for what
	// they have fetched.
	drain := d.cfg.ShutdownGrace - min(time.Second, d.cfg.ShutdownGrace/4)
	hard, cutTransfers := context.WithCancel(context.WithoutCancel(ctx))
	defer cutTransfers()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.inbox.Run(ctx) })
	g.Go(func() error { return d.reloads(ctx) })
	g.Go(func() error { return d.watchVolume(ctx) })
	g.Go(func() error { return d.backups.Run(ctx) })
	g.Go(func() error { return d.retention.Run(ctx) })
	g.Go(func() error { return d.hooks.run(ctx, drain) })
	g.Go(func() error { return d.server.Run(serving, listener) })
	g.Go(func() error { return d.systemd.watchdog(serving, func() bool { return d.health.Alive().OK }) })
	g.Go(func() error { d.announce(ctx); return nil })
	g.Go(func() error {
		defer stopServing()
		defer cutTransfers()
		return d.pipeline.Run(ctx, hard)
	})
	g.Go(func() error {
		<-ctx.Done()
		err := jobs.Close()
		clock.Sleep(hard, drain, nil)
		cutTransfers()
		return err
	})
	return g.Wait()
}

// jobs are the periodic jobs: those of the pipeline and the daemon's own.
func (d *daemon) jobs() []schedule.Job {
	scans := &scanWatch{
		dir: d.cfg.Drop.Dir, last: d.inbox.LastPass, emit: d.emit,
		rescan: func() time.Duration { return time.Duration(d.rescan.Load()) },
	}
	scanned := time.Now()
	return append(d.pipeline.Jobs(d.log), []schedule.Job{
		{Name: "alive", Every: time.Second, Do: func(context.Context) { d.health.Tick() }},
		// One step of the search for the oldest open run, which only metrics show. Errors of
		// the queue are reported elsewhere.
		{Name: "oldest", Every: time.Second, Do: func(ctx context.Context) { _ = d.queue.SeekOldest(ctx) }},
		{Name: "rescan", Every: time.Second, Do: func(context.Context) {
			if time.Since(scanned) >= time.Duration(d.rescan.Load()) {
				scanned = time.Now()
				d.inbox.Wake()
			}
		}},
		{Name: "intake", Every: time.Second, Do: func(context.Context) { scans.check() }},
	}...)
}

// announce reports that the daemon is ready, once the drop directory has been scanned.
func (d *daemon) announce(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.inbox.Scanned():
	}
	d.health.Started()
	d.log.Info("assetd is ready", zap.String("version", d.Version), zap.String("drop_dir", d.cfg.Drop.Dir),
		zap.String("storage_dir", d.cfg.Storage.Dir), zap.String("state_dir", d.cfg.State.Dir), zap.String("api", d.cfg.API.BaseURL))
	d.systemd.ready("taking runs from " + d.cfg.Drop.Dir)
}

// close closes what open opened, the queue last.
func (d *daemon) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if d.queue.Err() == nil {
		if err := d.pipeline.SaveService(ctx); err != nil {
			d.log.Warn("service clock not saved", zap.Error(err))
		}
	}
	d.pipeline.Close()
	if err := d.queue.Close(); err != nil {
		return fmt.Errorf("closing the queue: %w", err)
	}
	d.log.Info("stopped")
	return nil
}

// signal puts a value into c unless there is one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
