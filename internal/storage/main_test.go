package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a queue in memory that keeps the queue's promises.
type ledger struct {
	mu     sync.Mutex
	id     string
	used   map[string]bool
	runs   map[run.ID]run.Run
	assets map[run.Key]run.Asset
	fault  func(op string) error // may be nil
	broken error
	stored func(run.Key, run.Stored) // looks at the disk when an asset is told stored
	calls  map[string]int

	reasons []string // of Again
}

func newLedger(id string) *ledger {
	return &ledger{
		id: id, used: map[string]bool{}, runs: map[run.ID]run.Run{}, assets: map[run.Key]run.Asset{},
		calls: map[string]int{}, stored: func(run.Key, run.Stored) {},
	}
}

func (l *ledger) begin(op string) error {
	l.mu.Lock()
	l.calls[op]++
	if l.fault != nil {
		return l.fault(op)
	}
	return nil
}

func (l *ledger) ID() string { return l.id }

func (l *ledger) UsesVolume(dir string) (bool, error) {
	err := l.begin("uses")
	defer l.mu.Unlock()
	return l.used[dir], err
}

func (l *ledger) UseVolume(_ context.Context, dir string) error {
	err := l.begin("use")
	defer l.mu.Unlock()
	if err == nil {
		l.used[dir] = true
	}
	return err
}

func (l *ledger) Get(_ context.Context, id run.ID) (run.Run, error) {
	err := l.begin("get")
	defer l.mu.Unlock()
	r, ok := l.runs[id]
	if err == nil && !ok {
		err = run.ErrUnknown
	}
	return r, err
}

func (l *ledger) Asset(_ context.Context, key run.Key) (run.Asset, error) {
	err := l.begin("asset")
	defer l.mu.Unlock()
	a, ok := l.assets[key]
	if err == nil && !ok {
		err = run.ErrUnknown
	}
	return a, err
}

func (l *ledger) Place(_ context.Context, id run.ID, wanted string) (string, error) {
	err := l.begin("place")
	defer l.mu.Unlock()
	r := l.runs[id]
	if err == nil && r.Dir == "" {
		r.Dir = wanted
		l.runs[id] = r
	}
	return r.Dir, err
}

func (l *ledger) Verified(_ context.Context, batch []run.Named) ([]error, error) {
	err := l.begin("verified")
	defer l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(batch))
	for i, n := range batch {
		a, ok := l.assets[n.Key]
		switch {
		case !ok:
			errs[i] = run.ErrUnknown
			continue
		case a.State != run.AssetWaiting:
			errs[i] = run.ErrStale
			continue
		}
		for _, other := range l.assets {
			if other.Key != n.Key && other.Key.Run == n.Key.Run && other.Stored != nil && strings.EqualFold(other.Stored.File, n.File) {
				errs[i] = run.ErrNameTaken
			}
		}
		if errs[i] != nil {
			continue
		}
		a.State = run.AssetVerified
		a.Stored = &run.Stored{File: n.File, Size: n.Size, SHA256: n.SHA256, ContentType: n.ContentType, DownloadedAt: n.At}
		l.assets[n.Key] = a
	}
	return errs, nil
}

func (l *ledger) Stored(_ context.Context, keys []run.Key) ([]run.ID, error) {
	err := l.begin("stored")
	defer l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if a, ok := l.assets[k]; !ok || a.State != run.AssetVerified {
			return nil, run.ErrStale
		}
	}
	var ready []run.ID
	for _, k := range keys {
		a := l.assets[k]
		a.State, a.Provisional = run.AssetStored, nil
		l.assets[k] = a
		l.stored(k, *a.Stored)
		ready = append(ready, k.Run)
	}
	return ready, nil
}

func (l *ledger) Again(_ context.Context, key run.Key, reason string) (run.Asset, error) {
	err := l.begin("again")
	defer l.mu.Unlock()
	if err != nil {
		return run.Asset{}, err
	}
	a, ok := l.assets[key]
	if !ok {
		return a, run.ErrUnknown
	}
	if a.State == run.AssetWaiting {
		a.Provisional = nil
	}
	a = a.Again()
	l.reasons = append(l.reasons, reason)
	l.assets[key] = a
	return a, nil
}

func (l *ledger) state(key run.Key) run.AssetState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.assets[key].State
}

func (l *ledger) file(key run.Key) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.assets[key]
	if a.Stored == nil {
		return ""
	}
	return l.runs[key.Run].Dir + "/" + a.Stored.File
}

func (l *ledger) count(op string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[op]
}

// inMemory is a directory on a file system in memory, where there is one: syncs
// cost nothing there, and what they promise is held by the model in disk_test.go.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "assetd-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// rig is a volume in a directory of its own, with a queue and all that was told.
type rig struct {
	*Volume
	t   *testing.T
	q   *ledger
	dir string

	mu     sync.Mutex
	events []run.Event
	ready  []run.ID
}

func plainConfig(dir string) Config {
	return Config{Dir: dir, RunDir: "{app_id}/{run_id}", FileName: "{kind}/{asset_id}{ext}", FileMode: 0o640, DirMode: 0o750}
}

// newRig makes a volume that is in use; change may alter its configuration.
func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	c := plainConfig(inMemory(t))
	for _, f := range change {
		f(&c)
	}
	r := openRig(t, c, newLedger("queue-1"))
	if err := r.Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// openRig makes a volume over a queue, without starting it.
func openRig(t *testing.T, c Config, q *ledger) *rig {
	t.Helper()
	r := &rig{t: t, q: q, dir: c.Dir}
	v, err := New(c, Deps{
		Ledger: q,
		Ready:  func(ids []run.ID) { r.mu.Lock(); defer r.mu.Unlock(); r.ready = append(r.ready, ids...) },
		Broken: func(err error) bool { return q.broken != nil && err == q.broken },
		Tell:   func(e run.Event) { r.mu.Lock(); defer r.mu.Unlock(); r.events = append(r.events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Volume = v
	return r
}

func (r *rig) told(kind run.EventKind) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// running starts the keeper until the test ends; stop ends it earlier.
func (r *rig) running() (stop func() error) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	r.t.Cleanup(func() { stop() })
	return stop
}

// asset makes a waiting asset known to the queue.
func (r *rig) asset(runID run.ID, kind run.Kind, id string) run.Key {
	key := run.Key{Run: runID, Kind: kind, ID: id}
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if _, ok := r.q.runs[runID]; !ok {
		r.q.runs[runID] = run.Run{ID: runID, App: "app"}
	}
	r.q.assets[key] = run.Asset{Key: key, State: run.AssetWaiting}
	return key
}

func whole(key run.Key, body []byte) run.Whole {
	sum := sha256.Sum256(body)
	return run.Whole{Key: key, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:]), Ext: ".png", ContentType: "image/png"}
}

// write brings body into a part, as a transfer does.
func (r *rig) write(key run.Key, mark run.PartMark, body []byte) (*Part, error) {
	p, err := r.Part(key)
	if err != nil {
		return nil, err
	}
	if err := p.Reset(mark); err != nil {
		p.Discard()
		return nil, err
	}
	for len(body) > 0 {
		n := min(len(body), 1<<20)
		if _, err := p.Write(body[:n]); err != nil {
			p.Close()
			return nil, err
		}
		body = body[n:]
	}
	return p, nil
}

// keep writes and keeps an asset and waits for its end.
func (r *rig) keep(key run.Key, body []byte) error {
	p, err := r.write(key, run.PartMark{Total: int64(len(body))}, body)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	p.Keep(whole(key, body), func(err error) { done <- err })
	return <-done
}

func (r *rig) mustKeep(key run.Key, body []byte) {
	r.t.Helper()
	if err := r.keep(key, body); err != nil {
		r.t.Fatalf("keeping %s: %v", key, err)
	}
}

// content is what stands under a name of the volume.
func (r *rig) content(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// tree lists everything below the volume but the marker.
func (r *rig) tree() []string {
	r.t.Helper()
	var found []string
	err := filepath.WalkDir(r.dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(r.dir, p)
		if !d.IsDir() && rel != markerFile {
			found = append(found, rel)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

func body(n int, seed string) []byte {
	b := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(b)
	return b
}
