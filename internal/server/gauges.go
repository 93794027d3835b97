package server

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assetd/assetd/internal/run"
)

// Gauges tells how things stand at the moment. Only Queued may take long, or hang: it
// reads the queue. The others know it, or are told it by somebody who looks now and
// then: no disk and no network is asked for a scrape.
type Gauges interface {
	Queued(ctx context.Context) (Queued, error)
	Working() Working
	Around() Around
}

// Queued is what the queue tells.
type Queued struct {
	Runs   map[run.State]int
	Assets map[run.AssetState]int
	Size   int64          // bytes of its file
	Free   int64          // bytes of that file that hold nothing
	Oldest *time.Duration // age of the oldest open run; nil: none, or not known yet
	Late   time.Duration  // for how long the first run to be polled has been due
	Outbox int            // notices that hooks have not taken yet
	First  *time.Duration // age of the first of them; nil: none

	DamagedFiles, DamagedRuns int // what verify found, and retry has not fetched again yet
	// Deadline is when the asset that waits and dies first should be there, from now;
	// negative: it should have been; nil: none waits whose death is known.
	Deadline *time.Duration
}

// Working is how the downloads stand.
type Working struct {
	Running, Held  int            // transfers at full speed, and held open
	Throttled      int            // hosts that are left alone for a while
	AtRisk         int            // assets that it was told of that they may be lost
	Received       int64          // bytes, since the start
	Link           int64          // bytes/s it was seen to bring; 0: not known
	Drain, Slack   *time.Duration // nil: not known
	Budget, Tokens float64        // requests a second to the API, and how many at once
}

// Around is how it stands around the daemon.
type Around struct {
	API, Key, Volume, Space, Drop, Queue bool // reachable, accepted, there, enough, readable, writable

	MinFree       int64          // bytes
	Assets, State *Space         // of storage.dir and state.dir; nil: not known
	Skew          *time.Duration // of the API's clock ahead of ours; nil: not known
	Rejected      int            // files in rejected/
	LastPass      time.Duration  // since a look at the drop directory ended last
}

// Space is the room of a file system, in bytes.
type Space struct {
	Free int64 `json:"free"`
	Size int64 `json:"size"`
}

// queuePatience is how long a scrape waits for the queue, whose disk may hang. What
// does not come is left out, and assetd_queue_up says so.
const queuePatience = 2 * time.Second

// Watch has each scrape ask g. It may be called once.
func (m *Metrics) Watch(g Gauges) { m.registry.MustRegister(&gauges{from: g}) }

// gauges is a collector of what stands at the moment.
type gauges struct {
	from Gauges

	mu     sync.Mutex
	asking *question // nil: none
}

// question is one that the queue was asked.
type question struct {
	done   chan struct{}
	answer *Queued // once done; nil: it failed
}

// standing is all that a scrape has read. queue is nil where that did not answer.
type standing struct {
	queue *Queued
	Working
	Around
}

// queued asks the queue, with at most one question outstanding.
func (g *gauges) queued() *Queued {
	g.mu.Lock()
	asking := g.asking
	if asking == nil {
		asking = &question{done: make(chan struct{})}
		g.asking = asking
		go g.ask(asking)
	}
	g.mu.Unlock()
	late := time.NewTimer(queuePatience)
	defer late.Stop()
	select {
	case <-asking.done:
		return asking.answer
	case <-late.C:
		return nil
	}
}

func (g *gauges) ask(q *question) {
	if answer, err := g.from.Queued(context.Background()); err == nil {
		q.answer = &answer
	}
	g.mu.Lock()
	g.asking = nil
	g.mu.Unlock()
	close(q.done)
}

// Describe says nothing beforehand: what stands under these names is fixed all the
// same, and no other collector has them.
func (g *gauges) Describe(chan<- *prometheus.Desc) {}

// Collect reads everything once.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	s := standing{g.queued(), g.from.Working(), g.from.Around()}
	for _, f := range families() {
		var labels []string
		if f.label != "" {
			labels = []string{f.label}
		}
		kind := prometheus.GaugeValue
		if f.counts {
			kind = prometheus.CounterValue
		}
		desc := prometheus.NewDesc("assetd_"+f.name, f.help, labels, nil)
		for _, sample := range f.read(s) {
			to <- prometheus.MustNewConstMetric(desc, kind, sample.value, sample.label...)
		}
	}
}
