package download_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("the queue is broken")

// fakeQueue is the queue and the answers, with the transitions of package run.
type fakeQueue struct {
	mu     sync.Mutex
	runs   map[run.ID]run.Run
	assets map[run.Key]run.Asset
	urls   map[run.Key]run.Listed
	fail   error // of every call
	losses map[run.Key]run.Loss
	onLoss func()
	trials map[run.Key][]run.Trial
}

func (q *fakeQueue) Get(_ context.Context, id run.ID) (run.Run, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r, ok := q.runs[id]
	if !ok {
		return r, cmp.Or(q.fail, run.ErrUnknown)
	}
	return r, q.fail
}

func (q *fakeQueue) Asset(_ context.Context, key run.Key) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	if !ok {
		return a, cmp.Or(q.fail, run.ErrUnknown)
	}
	return a, q.fail
}

func (q *fakeQueue) Listed(key run.Key) (run.Listed, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.urls[key]
	return l, ok, nil
}

func (q *fakeQueue) page(state run.AssetState, cursor string, limit int) ([]run.Asset, string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []run.Asset
	for _, a := range q.assets {
		if a.State == state && a.Key.String() > cursor {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b run.Asset) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	if len(all) <= limit {
		return all, "", q.fail
	}
	return all[:limit], all[limit-1].Key.String(), q.fail
}

func (q *fakeQueue) Waiting(_ context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	return q.page(run.AssetWaiting, cursor, limit)
}

func (q *fakeQueue) VerifiedAssets(_ context.Context, cursor string, limit int) ([]run.Asset, string, error) {
	return q.page(run.AssetVerified, cursor, limit)
}

func (q *fakeQueue) Tried(ctx context.Context, key run.Key, t run.Trial) (run.Asset, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case q.fail != nil:
		return a, q.fail
	case !ok:
		return a, run.ErrUnknown
	case a.State != run.AssetWaiting:
		return a, run.ErrStale
	}
	a.Attempts++
	a.Evidence = a.Evidence.After(t)
	a.LastError = t.Error
	q.assets[key] = a
	q.trials[key] = append(q.trials[key], t)
	return a, nil
}

func (q *fakeQueue) Lose(_ context.Context, key run.Key, loss run.Loss) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.assets[key]
	switch {
	case q.fail != nil:
		return false, q.fail
	case !ok:
		return false, run.ErrUnknown
	case a.State != run.AssetWaiting:
		return false, run.ErrStale
	}
	if q.onLoss != nil {
		q.onLoss()
	}
	a.State, a.Loss = run.AssetLost, &loss
	q.assets[key] = a
	q.losses[key] = loss
	return !slices.ContainsFunc(q.of(key.Run), func(a run.Asset) bool { return a.State.Open() }), nil
}

// of is the run's assets. The queue is locked.
func (q *fakeQueue) of(id run.ID) (all []run.Asset) {
	for _, a := range q.assets {
		if a.Key.Run == id {
			all = append(all, a)
		}
	}
	return all
}

func (q *fakeQueue) state(key run.Key) run.AssetState {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.assets[key].State
}

func (q *fakeQueue) set(key run.Key, change func(*run.Asset)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.assets[key]
	change(&a)
	q.assets[key] = a
}

// fakeVolume keeps parts in memory, and has so much room.
type fakeVolume struct {
	q       *fakeQueue
	mu      sync.Mutex
	parts   map[run.Key]*fakePart
	stored  map[run.Key]run.Whole
	bytes   map[run.Key][]byte
	free    int64
	offline error
	openErr error                   // of Part
	keepErr func(key run.Key) error // of Keep
	resume  func(a run.Asset) error // of Resume
	tookOut []run.Key               // parts removed for room
	aside   map[run.Key]int         // times put into quarantine
	checks  []time.Time             // looks at the volume
	looks   []time.Time             // looks at the room
	wg      sync.WaitGroup          // keepers
}

type fakePart struct {
	v     *fakeVolume
	key   run.Key
	data  []byte
	mark  run.PartMark
	open  bool
	ended bool
}

func (v *fakeVolume) Part(key run.Key) (download.Part, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.offline != nil {
		return nil, v.offline
	}
	if v.openErr != nil {
		return nil, v.openErr
	}
	p := v.parts[key]
	if p == nil {
		p = &fakePart{v: v, key: key}
		v.parts[key] = p
	}
	if p.open {
		return nil, errors.New("part in use")
	}
	p.open, p.ended = true, false
	return p, nil
}

func (v *fakeVolume) Check() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checks = append(v.checks, time.Now())
	return v.offline
}

func (v *fakeVolume) Resume(a run.Asset, done func(error)) {
	v.wg.Go(func() {
		var err error
		if v.resume != nil {
			err = v.resume(a)
		}
		if err == nil {
			v.q.set(a.Key, func(a *run.Asset) { a.State = run.AssetStored })
		}
		done(err)
	})
}

func (v *fakeVolume) Free() (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.looks = append(v.looks, time.Now())
	return v.left(), v.offline
}

// left is the room beside what stands in the parts.
func (v *fakeVolume) left() int64 {
	left := v.free
	for _, p := range v.parts {
		left -= int64(len(p.data))
	}
	return left
}

func (v *fakeVolume) Parts() (map[string]int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sizes := map[string]int64{}
	for key, p := range v.parts {
		if !p.open {
			sizes[key.Hash()] = int64(len(p.data))
		}
	}
	return sizes, nil
}

func (v *fakeVolume) RemovePart(key run.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p := v.parts[key]; p != nil && p.open {
		return errors.New("part in use")
	}
	delete(v.parts, key)
	v.tookOut = append(v.tookOut, key)
	return nil
}

func (p *fakePart) Have() (int64, run.PartMark) {
	if p.mark.ETag == "" {
		return 0, run.PartMark{}
	}
	return int64(len(p.data)), p.mark
}

func (p *fakePart) Reset(m run.PartMark) error {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	p.data, p.mark = nil, m
	return nil
}

func (p *fakePart) Reserve(n int64) error {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	if n > p.v.left() {
		return run.ErrNoRoom
	}
	return nil
}

func (p *fakePart) Write(b []byte) (int, error) {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	if !p.open {
		return 0, errors.New("part is closed")
	}
	p.data = append(p.data, b...)
	return len(b), nil
}

func (p *fakePart) ReadAt(b []byte, off int64) (int, error) {
	if !p.open {
		return 0, errors.New("part is closed")
	}
	return bytes.NewReader(p.data).ReadAt(b, off)
}

func (p *fakePart) end(keep bool) {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	p.open, p.ended = false, true
	if !keep || p.mark.ETag == "" {
		delete(p.v.parts, p.key)
	}
}

func (p *fakePart) Close() error   { p.end(true); return nil }
func (p *fakePart) Discard() error { p.end(false); return nil }

func (p *fakePart) Quarantine() error {
	p.end(false)
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	p.v.aside[p.key]++
	return nil
}

func (p *fakePart) Keep(w run.Whole, done func(error)) {
	v := p.v
	v.wg.Go(func() {
		time.Sleep(keepTime)
		var err error
		v.mu.Lock()
		if v.keepErr != nil {
			err = v.keepErr(p.key)
		}
		if err == nil {
			v.stored[p.key], v.bytes[p.key] = w, p.data
		}
		v.mu.Unlock()
		p.end(false)
		if err == nil {
			v.q.set(p.key, func(a *run.Asset) { a.State = run.AssetStored })
		}
		done(err)
	})
}

// keepTime is how long the fake keeper takes.
const keepTime = 10 * time.Millisecond

// skewed is a clock on which some hosts' time is known.
type skewed struct {
	*clock.Clock
	skew map[string]time.Duration
}

func (s skewed) Skew(host string) (time.Duration, bool) {
	d, ok := s.skew[host]
	return d, ok
}

func (s skewed) Server(host string) time.Time { return s.Now().Add(s.skew[host]) }

// fetchFunc is what a host does with a request.
type fetchFunc func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error)

// request is one that was made.
type request struct {
	key run.Key
	url string
	at  time.Duration // since the start
}

// fakeServers answers requests by the host's rule, or the default one.
type fakeServers struct {
	mu       sync.Mutex
	begin    time.Time
	by       map[string]fetchFunc // by URL prefix; the longest counts
	requests []request
	now, max int // requests at a time
}

func (s *fakeServers) Fetch(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
	s.mu.Lock()
	s.requests = append(s.requests, request{r.Key, r.URL, time.Since(s.begin)})
	s.now++
	s.max = max(s.max, s.now)
	do, longest := serve("body of "+r.Key.ID, 100*time.Millisecond), -1
	for prefix, f := range s.by {
		if strings.HasPrefix(r.URL, prefix) && len(prefix) > longest {
			do, longest = f, len(prefix)
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	return do(ctx, r, p, progress)
}

func (s *fakeServers) rule(prefix string, f fetchFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[prefix] = f
}

// of are the requests whose URL starts so.
func (s *fakeServers) of(prefix string) (some []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.HasPrefix(r.url, prefix) {
			some = append(some, r)
		}
	}
	return some
}

func (s *fakeServers) times(prefix string) (at []time.Duration) {
	for _, r := range s.of(prefix) {
		at = append(at, r.at)
	}
	return at
}

func sum(body string) string {
	s := sha256.Sum256([]byte(body))
	return hex.EncodeToString(s[:])
}

// serve sends a body, whole and proven, half of it at once and half after so long.
func serve(body string, took time.Duration) fetchFunc { return send(body, took, true) }

// send goes on from what the part holds, like a server with ranges.
func send(body string, took time.Duration, proven bool) fetchFunc {
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		total := int64(len(body))
		have, mark := p.Have()
		if have == 0 || mark.Total != total {
			mark = run.PartMark{Total: -1}
			if proven {
				mark = run.PartMark{ETag: `"e"`, Total: total}
			}
			if err := p.Reset(mark); err != nil {
				return transfer.Result{}, failure(transfer.Disk, 200, err)
			}
			have = 0
		}
		progress(have, total)
		if err := p.Reserve(total - have); err != nil {
			return transfer.Result{}, failure(transfer.NoRoom, 200, err)
		}
		half := max(have, total/2)
		for _, end := range []int64{half, total} {
			if _, err := io.WriteString(p, body[have:end]); err != nil {
				return transfer.Result{}, failure(transfer.Disk, 200, err)
			}
			have = end
			progress(have, total)
			select {
			case <-ctx.Done():
				return transfer.Result{}, failure(transfer.Canceled, 200, context.Cause(ctx))
			case <-time.After(took / 2):
			}
		}
		return transfer.Result{
			Whole:  run.Whole{Key: r.Key, Size: total, SHA256: sum(body), Ext: ".png", At: time.Now()},
			Proven: proven, Host: host(r.URL),
		}, nil
	}
}

func host(url string) string {
	url = strings.TrimPrefix(url, "https://")
	name, _, _ := strings.Cut(url, "/")
	return name
}

func failure(class transfer.Class, status int, err error) *transfer.Failure {
	return &transfer.Failure{Class: class, Status: status, Err: err}
}

// refuse answers with a status, at once.
func refuse(class transfer.Class, status int) fetchFunc { return retryAfter(class, status, 0) }

func retryAfter(class transfer.Class, status int, after time.Duration) fetchFunc {
	return func(_ context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		f := failure(class, status, errors.New(string(class)))
		f.Host, f.RetryAfter = host(r.URL), after
		return transfer.Result{}, f
	}
}

// slowly does it after so long.
func slowly(d time.Duration, f fetchFunc) fetchFunc {
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		time.Sleep(d)
		return f(ctx, r, p, progress)
	}
}

// hang answers nothing for so long.
func hang(d time.Duration) fetchFunc {
	return func(ctx context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		select {
		case <-ctx.Done():
			return transfer.Result{}, failure(transfer.Canceled, 0, context.Cause(ctx))
		case <-time.After(d):
		}
		f := failure(transfer.Network, 0, errors.New("dial: timed out"))
		f.Host = host(r.URL)
		return transfer.Result{}, f
	}
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
	stopping context.CancelFunc
	halt     context.CancelFunc
	done     chan error
}

// live runs a test in a bubble, with a world whose pool is not started yet.
func live(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, begin: time.Now(), svc: clock.NewService(0), clk: skewed{clock.New(), map[string]time.Duration{}},
			cfg: download.Config{Workers: 4, Margin: 2 * time.Minute, GiveUpAfter: 30 * time.Minute, LostAfter: 168 * time.Hour},
		}
		w.q = &fakeQueue{
			runs: map[run.ID]run.Run{}, assets: map[run.Key]run.Asset{}, urls: map[run.Key]run.Listed{},
			losses: map[run.Key]run.Loss{}, trials: map[run.Key][]run.Trial{},
		}
		w.v = &fakeVolume{
			q: w.q, parts: map[run.Key]*fakePart{}, stored: map[run.Key]run.Whole{}, bytes: map[run.Key][]byte{},
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
			defer w.mu.Unlock()
			w.events = append(w.events, e)
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
