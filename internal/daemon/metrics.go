package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/health"
	"github.com/assetd/assetd/internal/inbox"
	"github.com/assetd/assetd/internal/notify"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// countEvents passes events to the metrics, and counts what became of notifications, whose
// events only the notifier knows.
func countEvents(m *server.Metrics) run.Tell {
	return func(e run.Event) {
		switch e.Kind {
		case notify.Told:
			m.Hooked("told")
		case notify.Failed:
			m.Hooked("failed")
		case notify.GivenUp:
			m.Hooked("given_up")
		}
		m.Tell(e)
	}
}

// gauges are the current values of metrics and dashboard. Nothing here reads a disk except
// Queued, which reads the queue, and measure, which is not called for a scrape.
type gauges struct {
	health   *health.Monitor
	pipeline *pipeline.Pipeline
	inbox    *inbox.Inbox
	state    string // state.dir
	room     atomic.Pointer[server.Space]
}

// measure records the free space of the state directory and of the volume.
func (g *gauges) measure() {
	var st unix.Statfs_t
	if err := unix.Statfs(g.state, &st); err == nil {
		block := int64(max(st.Frsize, 0))
		if block == 0 {
			block = int64(st.Bsize)
		}
		g.room.Store(&server.Space{Free: int64(st.Bavail) * block, Size: int64(st.Blocks) * block})
	}
	_, _ = g.pipeline.Volume.Free() // it is recorded there
}

// Queued reads the figures of the queue.
func (g *gauges) Queued(ctx context.Context) (server.Queued, error) {
	f, err := g.pipeline.Queue.Figures(ctx)
	if err != nil {
		return server.Queued{}, err
	}
	q := queued(f, g.pipeline.Clock.Now())
	if f.Nearest.Key.ID != "" {
		q.Deadline = new(g.pipeline.Pool.Left(f.Nearest))
	}
	return q, nil
}

// queued converts the figures, with times relative to now.
func queued(f queue.Figures, now time.Time) server.Queued {
	q := server.Queued{Runs: f.Runs, Assets: f.Assets, Size: f.Size, Free: f.Free, DamagedFiles: f.DamagedFiles, DamagedRuns: f.DamagedRuns}
	if !f.Due.IsZero() {
		q.Late = max(now.Sub(f.Due), 0)
	}
	if !f.Oldest.IsZero() {
		q.Oldest = new(max(now.Sub(f.Oldest), 0))
	}
	q.Outbox = f.Outbox
	if !f.First.IsZero() {
		q.First = new(max(now.Sub(f.First), 0))
	}
	return q
}

// Working returns the figures of the downloads and the API budget.
func (g *gauges) Working() server.Working {
	f := g.pipeline.Pool.Figures()
	w := working(f)
	w.Budget, w.Tokens = g.pipeline.API.Budget()
	return w
}

func working(f download.Figures) server.Working {
	w := server.Working{
		Running: f.Running, Held: f.Held, Throttled: f.Throttled, AtRisk: f.AtRisk, Received: f.Received, Link: f.Link,
	}
	if f.Drain.Known {
		w.Drain, w.Slack = &f.Drain.Needs, &f.Drain.Slack
	}
	return w
}

// Around returns what is known of what the daemon depends on.
func (g *gauges) Around() server.Around {
	wrong := g.health.Faults()
	a := server.Around{
		API: !wrong[run.APIDown], Key: !wrong[run.APIRefused], Volume: !wrong[run.VolumeOffline], Space: !wrong[run.DiskLow],
		Drop: !wrong[run.DropTrouble] && !wrong[run.DropHangs], Queue: !wrong[run.QueueTrouble],
		State: g.room.Load(), Rejected: g.inbox.Rejected(), LastPass: max(time.Since(g.inbox.LastPass()), 0),
	}
	var room storage.Space
	var known bool
	if room, a.MinFree, known = g.pipeline.Volume.Room(); known {
		a.Assets = &server.Space{Free: room.Free, Size: room.Size}
	}
	if skew, known := g.pipeline.Clock.Skew(g.pipeline.API.Host()); known {
		a.Skew = &skew
	}
	return a
}
