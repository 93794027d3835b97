package download_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("the queue is broken")

// skewed is a clock on which some hosts' time is known.
type skewed struct {
	*clock.Clock
	skew map[string]time.Duration
	boom *atomic.Bool // it panics where it is asked for the host boom
}

func (s skewed) Skew(host string) (time.Duration, bool) {
	d, ok := s.skew[host]
	return d, ok
}

func (s skewed) Server(host string) time.Time {
	if host == "boom" && s.boom.Load() {
		panic("no clock")
	}
	return s.Now().Add(s.skew[host])
}

// renewal is a call of Renew.
type renewal struct {
	id      run.ID
	spacing time.Duration
	at      time.Duration
}

// world is a pool with everything around it.
type world struct {
	t        *testing.T
	q        *fakeQueue
	v        *fakeVolume
	s        *fakeServers
	clk      skewed
	svc      *clock.Service
	cfg      download.Config
	pool     *download.Pool
	begin    time.Time
	mu       sync.Mutex
	events   []run.Event
	renewals []renewal
	ready    []run.ID
	prepared []run.ID
	prepare  func(run.ID) (bool, error)
	onRenew  func(run.ID)
	onTell   func(run.Event) // it may take its time
	stopping context.CancelFunc
	halt     context.CancelFunc
	done     chan error
}

// live runs a test in a bubble, with a world whose pool is not started yet.
func live(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, begin: time.Now(), svc: clock.NewService(0), clk: skewed{clock.New(), map[string]time.Duration{}, &atomic.Bool{}},
			cfg: download.Config{Workers: 4, Margin: 2 * time.Minute, GiveUpAfter: 30 * time.Minute, LostAfter: 168 * time.Hour},
		}
		w.q = &fakeQueue{
			runs: map[run.ID]run.Run{}, assets: map[run.Key]run.Asset{}, urls: map[run.Key]run.Listed{},
			losses: map[run.Key]run.Loss{}, trials: map[run.Key][]run.Trial{}, read: map[run.ID]int{},
		}
		w.v = &fakeVolume{
			q: w.q, parts: map[run.Key]*fakePart{}, stored: map[run.Key]run.Whole{}, bytes: map[run.Key][]byte{}, early: map[run.Key][]byte{},
			free: 1 << 40, aside: map[run.Key]int{},
		}
		w.s = &fakeServers{begin: w.begin, by: map[string]fetchFunc{}}
		test(w)
		w.stop()
	})
}

func (w *world) start() {
	pool := download.New(w.cfg, download.Deps{
		Queue: w.q, Volume: w.v, Fetcher: w.s, Clock: w.clk, Service: w.svc,
		Prepare: func(_ context.Context, id run.ID) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.prepared = append(w.prepared, id)
			if w.prepare != nil {
				return w.prepare(id)
			}
			return false, nil
		},
		Renew: func(id run.ID, _ time.Time, spacing time.Duration) {
			w.mu.Lock()
			w.renewals = append(w.renewals, renewal{id, spacing, time.Since(w.begin)})
			answer := w.onRenew
			w.mu.Unlock()
			if answer != nil {
				answer(id)
			}
		},
		Ready: func(ids []run.ID) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ready = append(w.ready, ids...)
		},
		Tell: func(e run.Event) {
			w.mu.Lock()
			w.events = append(w.events, e)
			w.mu.Unlock()
			if w.onTell != nil {
				w.onTell(e)
			}
		},
		Broken: func(err error) bool { return errors.Is(err, errBroken) },
		Random: func() float64 { return 1 },
	})
	ctx, stop := context.WithCancel(context.Background())
	hard, halt := context.WithCancel(context.Background())
	w.stopping, w.halt, w.done = stop, halt, make(chan error, 1)
	w.mu.Lock()
	w.pool = pool
	w.mu.Unlock()
	go func() { w.done <- pool.Run(ctx, hard) }()
}

// stop ends the pool, transfers included.
func (w *world) stop() error {
	if w.pool == nil {
		return nil
	}
	w.stopping()
	w.halt()
	err := <-w.done
	w.v.wg.Wait()
	for k, p := range w.v.parts {
		if p.open {
			w.t.Errorf("the part of %s was left open", k)
		}
	}
	w.mu.Lock()
	w.pool = nil
	w.mu.Unlock()
	return err
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets time go by up to a moment since the beginning.
func (w *world) until(at time.Duration) { w.pass(at - time.Since(w.begin)) }

func key(id run.ID, name string) run.Key { return run.Key{Run: id, Kind: run.Images, ID: name} }

// listed is an asset as the API lists it. life 0: the expiry is not known.
func (w *world) listed(k run.Key, url string, life time.Duration) run.Listed {
	l := run.Listed{Kind: k.Kind, ID: k.ID, URL: url}
	if url != "" {
		l.Source, _, _ = strings.Cut(url, "?")
	}
	if life != 0 {
		l.Expiry = time.Now().Add(life)
	}
	return l
}

// add puts an asset into the queue as a poll would, and returns its key. A pool
// that runs is told.
func (w *world) add(id run.ID, name, url string, life time.Duration) run.Key {
	k := key(id, name)
	w.answer(id, map[run.Key]run.Listed{k: w.listed(k, url, life)})
	return k
}

// addMany puts n assets in with one poll: name000 at url000 and so on.
func (w *world) addMany(id run.ID, name, url string, n int, life time.Duration) (keys []run.Key) {
	all := map[run.Key]run.Listed{}
	for i := range n {
		k := key(id, fmt.Sprintf("%s%03d", name, i))
		all[k] = w.listed(k, fmt.Sprintf("%s%03d", url, i), life)
		keys = append(keys, k)
	}
	w.answer(id, all)
	return keys
}

// answer is a poll of an ended run that lists these assets. All that wait are in
// the change.
func (w *world) answer(id run.ID, listed map[run.Key]run.Listed) {
	w.q.mu.Lock()
	r, known := w.q.runs[id]
	if !known {
		r = run.Run{ID: id, State: run.Downloading, HandedIn: time.Now(), EndedAt: time.Now(), EndedService: w.svc.Now()}
		w.q.runs[id] = r
	}
	for k, l := range listed {
		a, ok := w.q.assets[k]
		if !ok {
			a = run.Asset{Key: k, State: run.AssetWaiting}
		}
		w.q.assets[k], w.q.urls[k] = a.See(l, w.clk.Server("api")), l
	}
	change := run.Change{Run: r, Ended: !known}
	for _, a := range w.q.of(id) {
		if a.State == run.AssetWaiting {
			change.Assets = append(change.Assets, a)
		}
	}
	w.q.mu.Unlock()
	w.mu.Lock()
	pool := w.pool
	w.mu.Unlock()
	if pool != nil {
		pool.Changed(change)
	}
}

// again is a poll that lists what the last one did.
func (w *world) again(id run.ID) {
	w.q.mu.Lock()
	same := map[run.Key]run.Listed{}
	for k, l := range w.q.urls {
		if k.Run == id {
			same[k] = l
		}
	}
	w.q.mu.Unlock()
	w.answer(id, same)
}

func (w *world) told(kind run.EventKind) (some []run.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			some = append(some, e)
		}
	}
	return some
}

func (w *world) asked() []renewal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.renewals)
}

func (w *world) expect(k run.Key, state run.AssetState) {
	w.t.Helper()
	if got := w.q.state(k); got != state {
		w.t.Errorf("%s is %s after %v, want %s", k, got, time.Since(w.begin), state)
	}
}

func (w *world) evidence(k run.Key) run.Evidence {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.assets[k].Evidence
}

// lost expects a loss by the rule.
func (w *world) lost(k run.Key, rule run.LossRule) {
	w.t.Helper()
	w.expect(k, run.AssetLost)
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if got := w.q.losses[k].Rule; got != rule {
		w.t.Errorf("%s was lost by %q, want %q", k, got, rule)
	}
}

// order is the IDs of the assets in the order in which they were asked for.
func (w *world) order() (ids []string) {
	for _, r := range w.s.of("") {
		ids = append(ids, r.key.ID)
	}
	return ids
}

const hour = time.Hour
