package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

// resumeLoop looks at assets that the queue has as verified and brings those whose
// bytes compare to the first loop. It reads whole files, which may take long, and
// so is a loop of its own.
func (v *Volume) resumeLoop(ctx context.Context) error {
	for {
		it, sleep := v.committer.nextDue(time.Now())
		if it == nil {
			clock.Sleep(ctx, sleep, v.committer.recheck)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			v.postpone(it) // stop tells its end
			return nil
		case v.committer.slots <- struct{}{}:
		}
		if err := v.reopen(ctx, it); err != nil {
			return err
		}
	}
}

// nextDue takes out the item that is due first, or says how long to sleep.
func (k *committer) nextDue(now time.Time) (*item, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := -1
	for i, it := range k.later {
		if first < 0 || it.due.Before(k.later[first].due) {
			first = i
		}
	}
	if first < 0 {
		return nil, longSleep
	}
	if wait := k.later[first].due.Sub(now); wait > 0 {
		return nil, min(wait, longSleep)
	}
	it := k.later[first]
	last := len(k.later) - 1
	k.later[first], k.later[last] = k.later[last], nil
	k.later = k.later[:last]
	return it, 0
}

// reopen compares a verified item's bytes and passes it on. The item holds a slot.
func (v *Volume) reopen(ctx context.Context, it *item) (fatal error) {
	v.guard(it, func() error {
		err := v.compare(ctx, it)
		fatal = v.fatal(err)
		return err
	})
	switch {
	case it.err == nil && it.m != nil:
		v.push(it)
	case it.err == nil, !it.verified, gone(it.err): // stored already, or to be fetched again
		v.shut(it)
		<-v.committer.slots
		v.release(it.hash)
		it.call(v, it.err)
	default:
		v.shut(it)
		<-v.committer.slots
		v.putOff(it)
	}
	return fatal
}

// compare finds a verified item's bytes: in its part, or under its name. Where
// they are in neither, the queue has the asset fetched again.
func (v *Volume) compare(ctx context.Context, it *item) error {
	it.verified = !it.provisional // until the queue says otherwise
	a, dir, err := v.ask(ctx, it.key)
	switch {
	case err != nil:
		return fmt.Errorf("asset %s: %w", it.key, err)
	case a.State == run.AssetStored:
		return nil
	case it.provisional && a.State == run.AssetWaiting && a.Provisional != nil:
		return v.compareProvisional(ctx, it, a, dir)
	case it.provisional || a.State != run.AssetVerified || a.Stored == nil:
		return fmt.Errorf("asset %s is %s, not verified: %w", it.key, a.State, run.ErrStale)
	}
	s := a.Stored
	it.asset, it.dir, it.file = a, dir, s.File
	it.whole = run.Whole{
		Key: it.key, Size: s.Size, SHA256: s.SHA256, Ext: path.Ext(s.File),
		ContentType: s.ContentType, Warnings: s.Warnings, At: s.DownloadedAt,
	}
	if it.m, err = v.open(); err != nil {
		return err
	}
	full := path.Join(dir, s.File)
	for _, ext := range []string{partExt, provisionalExt} {
		it.from = ext
		inPart, err := it.m.holds(ctx, path.Join(partsDir, it.hash+ext), s)
		if err != nil || inPart {
			return err
		}
	}
	it.published, err = it.m.holds(ctx, full, s)
	if err != nil || it.published {
		return err
	}
	it.err = fmt.Errorf("asset %s: neither its part nor %s has the bytes that were verified: fetched again", it.key, it.m.path(full))
	if fatal := v.requeue(ctx, it); fatal != nil {
		return fatal
	}
	return it.err
}

// holds reports whether the file holds what was verified. One that cannot be read
// for a failing disk does not.
func (m *mount) holds(ctx context.Context, name string, s *run.Stored) (bool, error) {
	d, err := m.enter(path.Dir(name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.close()
	ok, err := d.same(ctx, path.Base(name), s.Size, s.SHA256)
	if errors.Is(err, unix.EIO) {
		return false, nil
	}
	return ok, err
}
