package inbox

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/durable"
)

// waiter is a caller of Await. Its names are Run's goroutine's once it is registered.
type waiter struct {
	names map[string]bool
	done  chan struct{}
}

// Await has these files of the drop directory, which dropfile.Write has written, looked
// at now, whatever else is in the directory. It returns nil once all their run IDs are
// in the queue, and the error of ctx where that ends first: the files are taken later.
func (x *Inbox) Await(ctx context.Context, paths []string) error {
	w := &waiter{names: map[string]bool{}, done: make(chan struct{})}
	for _, path := range paths {
		w.names[filepath.Base(path)] = true
	}
	x.mu.Lock()
	x.waiters[w] = true
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.waiters, w)
		x.mu.Unlock()
	}()
	select {
	case x.asked <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaited is the files that somebody waits for.
func (x *Inbox) awaited() map[string]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	names := map[string]bool{}
	for w := range x.waiters {
		for name := range w.names {
			names[name] = true
		}
	}
	return names
}

// answer tells those who wait for files that are in the queue by now. A file that is
// no longer in the drop directory left it for that reason.
func (p *pass) answer() {
	taken := p.awaited()
	for name := range taken {
		l := p.drop.looks[name]
		taken[name] = l != nil && (l.state == toAccept || l.state == toReject) || p.drop.free(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.waiters {
		for name := range w.names {
			if taken[name] {
				delete(w.names, name)
			}
		}
		if len(w.names) == 0 {
			close(w.done)
			delete(p.waiters, w)
		}
	}
}

// express takes the files that somebody waits for and looks at no others: it costs the
// same however many there are. It says when the next look at all of them is due.
func (x *Inbox) express(ctx context.Context, due time.Time) time.Time {
	names := x.awaited()
	if len(names) == 0 {
		return due
	}
	p := &pass{Inbox: x, cfg: x.config(), now: time.Now(), due: due}
	if p.openAll() != nil {
		return due // which the next look at all files tells
	}
	defer p.closeAll()
	var ready []*item
	for name := range names {
		if it := p.look(p.drop, name, maxAge); it != nil {
			ready = append(ready, it)
		}
	}
	p.take(ctx, ready)
	p.answer()
	return p.due
}

// whole reports whether a file was complete when it got its name, so that there is
// nothing to wait for: one of dropfile.Write's, or one that was renamed into place and
// that nobody has open for writing.
func (p *pass) whole(name string, l *look) bool {
	if dropfile.Written(name) {
		return true
	}
	at, renamed := p.watch.renamed[name]
	if !renamed || l.size == 0 {
		return false
	}
	if ripe := at.Add(spacing); p.now.Before(ripe) { // an event that it is being written may follow
		p.sooner(ripe)
		return false
	}
	return p.drop.unopened(name)
}

// unopened reports whether it is certain that nobody has a file open for writing: then
// the kernel grants a read lease (fcntl(2), F_SETLEASE), if the file is this user's.
func (f *folder) unopened(name string) bool {
	file, err := f.openFile(name)
	if err != nil {
		return false
	}
	defer file.Close()
	lease := func(kind int) error {
		return durable.Uninterrupted(func() error {
			_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, kind)
			return err
		})
	}
	if lease(unix.F_RDLCK) != nil {
		return false
	}
	return lease(unix.F_UNLCK) == nil
}
