package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// probeTime is how long a volume may take to answer before it counts as hung. A
// healthy disk under full load answers within a second or two.
const probeTime = 5 * time.Second

// probe asks something that may hang, with at most one question outstanding: a
// call to a dead NFS server cannot be cancelled, and must not pile up.
type probe[T any] struct {
	mu     sync.Mutex
	flight *flight[T]
}

type flight[T any] struct {
	since  time.Time
	done   chan struct{}
	answer T
	err    error
}

// ask waits for an answer at most probeTime, the sum over all askers of the same
// question; then ok is false, and since says how long it has been outstanding.
func (p *probe[T]) ask(question func() (T, error)) (f *flight[T], ok bool) {
	p.mu.Lock()
	f = p.flight
	if f == nil {
		f = &flight[T]{since: time.Now(), done: make(chan struct{})}
		p.flight = f
		go func() {
			f.answer, f.err = question()
			p.mu.Lock()
			p.flight = nil
			p.mu.Unlock()
			close(f.done)
		}()
	}
	p.mu.Unlock()
	late := time.NewTimer(probeTime - time.Since(f.since))
	defer late.Stop()
	select {
	case <-f.done:
		return f, true
	case <-late.C:
		return f, false
	}
}

// Check looks whether the volume is there, ours, and can be written. It answers
// within seconds even when the volume hangs. The error is run.ErrVolumeOffline
// with what is wrong and the hint. As long as Use has not succeeded, Check goes
// on with the start in its place.
func (v *Volume) Check() error {
	f, ok := v.checks.ask(func() (struct{}, error) { return struct{}{}, v.check() })
	if !ok {
		return v.hangs(f.since)
	}
	return f.err
}

func (v *Volume) hangs(since time.Time) error {
	return run.Because(run.ErrVolumeOffline, fmt.Errorf("%s has not answered for %v: is its server or disk alive?", v.Dir, time.Since(since).Round(time.Second)))
}

func (v *Volume) check() error {
	if !v.taken.Load() {
		if err := v.Use(context.Background()); err != nil {
			return err
		}
	}
	m, meta, err := v.openMeta()
	if err != nil {
		return err
	}
	defer m.close()
	defer meta.close()
	if !v.suspect.Load() {
		return nil
	}
	// A write was refused: only a write can tell that this is over.
	d, err := meta.parts()
	if err != nil {
		return err
	}
	defer d.close()
	const name = "probe" + tempExt
	if err := d.writeFile(name, []byte("assetd\n"), true); err != nil {
		return offline(err)
	}
	if err := v.sys.remove(d.root, name); err != nil {
		return offline(v.explain("removing", m.path(path.Join(partsDir, name)), err))
	}
	v.suspect.Store(false)
	return nil
}

// offline is err as a reason for the volume to be offline, which it may say itself.
func offline(err error) error {
	if errors.Is(err, run.ErrVolumeOffline) {
		return err
	}
	return run.Because(run.ErrVolumeOffline, err)
}
