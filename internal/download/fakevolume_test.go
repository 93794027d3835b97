package download_test

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
)

// fakeVolume keeps parts in memory, and has so much room.
type fakeVolume struct {
	q       *fakeQueue
	mu      sync.Mutex
	parts   map[run.Key]*fakePart
	stored  map[run.Key]run.Whole
	bytes   map[run.Key][]byte
	early   map[run.Key][]byte // kept without a name
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
	thin  int64 // bytes beside data that are only counted
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

func (v *fakeVolume) Confirm(w run.Whole, done func(error)) {
	v.wg.Go(func() {
		time.Sleep(keepTime)
		v.mu.Lock()
		data, there := v.early[w.Key]
		err := v.offline
		if v.keepErr != nil {
			err = v.keepErr(w.Key)
		}
		if err == nil && there {
			v.stored[w.Key], v.bytes[w.Key] = w, data
			delete(v.early, w.Key)
		}
		v.mu.Unlock()
		switch {
		case err != nil:
		case there:
			v.q.set(w.Key, func(a *run.Asset) { a.State, a.Provisional = run.AssetStored, nil })
		default:
			err = errors.New("its bytes are gone")
			v.q.set(w.Key, func(a *run.Asset) { a.Provisional = nil })
		}
		done(err)
	})
}

func (v *fakeVolume) DropProvisional(key run.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.early, key)
	return nil
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
	return int64(len(p.data)) + p.thin, p.mark
}

func (p *fakePart) Reset(m run.PartMark) error {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	p.data, p.thin, p.mark = nil, 0, m
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

func (p *fakePart) WriteAt(b []byte, off int64) (int, error) {
	if have, _ := p.Have(); off != have {
		return 0, errors.New("this part is written from front to back")
	}
	return p.Write(b)
}

func (p *fakePart) Beyond() []run.Span { return nil }

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

func (p *fakePart) KeepProvisional(size int64) error {
	p.v.mu.Lock()
	err := p.v.offline
	if err == nil && int64(len(p.data)) != size {
		err = errors.New("the part has another size")
	}
	if err == nil {
		p.v.early[p.key] = p.data
	}
	p.v.mu.Unlock()
	p.end(err != nil)
	return err
}

func (p *fakePart) Close() error   { p.end(true); return nil }
func (p *fakePart) Discard() error { p.end(false); return nil }

func (p *fakePart) Quarantine() (string, error) {
	p.end(false)
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	p.v.aside[p.key]++
	return "aside/" + p.key.ID, nil
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
