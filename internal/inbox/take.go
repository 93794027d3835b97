package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// A group is what goes into the queue with one commit. It is closed when one of
// these is reached.
const (
	groupFiles = 1000
	groupIDs   = dropfile.MaxIDs
	groupBytes = 2 * dropfile.MaxSize
)

// What one pass tells at most: of files that cannot be taken, and of runs whose
// labels came too late.
const (
	maxLines = 10
	maxLate  = 100
)

// errChanged says that a file is being written: it is looked at again later.
var errChanged = errors.New("the file has changed meanwhile")

// item is a file on its way.
type item struct {
	from   *folder
	name   string
	look   *look
	whole  bool // it was complete when it got its name
	result dropfile.Result
}

func (it *item) path() string { return it.from.path + "/" + it.name }

// take takes the files: those whose IDs are in the queue already are moved, the
// others read, group by group.
func (p *pass) take(ctx context.Context, ready []*item) {
	for len(ready) > 0 && ctx.Err() == nil {
		var group []*item
		group, ready = p.read(ready)
		p.add(ctx, group)
		p.answer()
		p.getsOn()
	}
	if p.lines > maxLines {
		p.tell(run.Event{Kind: FileTrouble, File: p.drop.path, Count: p.lines - maxLines, Note: "further files; more about each when it changes"})
	}
	p.lines = 0
}

// read reads files until a group is full, and gives back the rest.
func (p *pass) read(ready []*item) (group, rest []*item) {
	ids, bytes := 0, int64(0)
	for i, it := range ready {
		if len(group) >= groupFiles || ids >= groupIDs || bytes >= groupBytes {
			return group, ready[i:]
		}
		if it.look.state != fresh {
			p.finish([]*item{it})
			continue
		}
		if p.now.Before(p.retry) { // the queue cannot be written
			p.sooner(p.retry)
			continue
		}
		err := p.load(it)
		switch {
		case err == nil && it.result.Empty && it.from != p.drop:
			// Its name was taken when it was handed in, and may be another here: -2.
			it.look.state = idle
		case err == nil && it.result.Unwritten != "" && p.holdBack(it.look, p.cfg.Settle+writeEmpty):
		case err == nil && it.result.Unfinished && !it.whole && p.holdBack(it.look, writeOn):
		case err == nil:
			it.result.GiveUp()
			group = append(group, it)
			ids += len(it.result.HandIns)
			bytes += it.look.size
		case errors.Is(err, fs.ErrNotExist): // taken back in the last moment
		case errors.Is(err, errChanged), errors.Is(err, unix.ELOOP):
			it.look.failed(p.now) // unless the next look sees what it is now
			p.sooner(it.look.retry)
		default:
			p.failed(it, err)
		}
	}
	return group, nil
}

// load reads and parses one file as it was when it was looked at.
func (p *pass) load(it *item) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read %s: panic: %v", it.path(), r)
			p.tell(run.Event{Kind: run.StageRecovered, File: it.path(), Err: fmt.Errorf("%w\n%s", err, debug.Stack())})
		}
	}()
	if it.look.size == 0 { // its name says all, whoever may read it
		it.result = dropfile.Parse(it.name, nil)
		return nil
	}
	f, err := it.from.openFile(it.name)
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, 0, min(it.look.size, dropfile.MaxSize)+1)
	for range 2 { // two looks that agree, with the reading between them
		var st unix.Stat_t
		if err := durable.Uninterrupted(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
			return &fs.PathError{Op: "stat", Path: it.path(), Err: err}
		}
		if now := stampOf(&st); !now.same(it.look.stamp) || !now.usable() {
			return errChanged
		}
		n, err := io.ReadFull(f, data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
	}
	if int64(len(data)) < min(it.look.size, dropfile.MaxSize) {
		return errChanged
	}
	it.result = dropfile.Parse(it.name, data)
	if it.from != p.drop { // taken before: what was removed since stays removed
		for i := range it.result.HandIns {
			it.result.HandIns[i].Again = true
		}
	}
	return nil
}

// add makes the group's IDs durable, and only then moves its files. Where the
// queue refuses, the files stay where they are.
func (p *pass) add(ctx context.Context, group []*item) {
	err := p.addAll(ctx, group)
	if err == nil || ctx.Err() != nil {
		return
	}
	// One file alone may be the cause: then the others must not wait for it. Two
	// in a row mean that the queue is.
	refused := 0
	for i, it := range group {
		if len(group) > 1 {
			err = p.addAll(ctx, group[i:i+1])
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			refused = 0
			continue
		}
		it.look.failed(p.now)
		p.sooner(it.look.retry)
		if refused++; refused == 2 {
			p.failures++
			p.Inbox.retry = p.now.Add(retryDelay(p.failures))
			p.sooner(p.Inbox.retry)
			return
		}
	}
}

func (p *pass) addAll(ctx context.Context, group []*item) error {
	var ids []run.HandIn
	for n, it := range group {
		for _, h := range it.result.HandIns {
			h.Submission = n
			ids = append(ids, h)
		}
	}
	if len(ids) > 0 {
		taken, err := p.queue.Add(ctx, ids)
		if err != nil {
			if ctx.Err() == nil {
				p.stalled.is(p, err, run.Event{
					Kind: run.QueueTrouble, File: group[0].path(), Count: len(ids),
					Note: "the drop files stay where they are and are tried again",
				})
			}
			return err
		}
		p.failures, p.stalled = 0, trouble{}
		blame(group, taken.Refused)
		p.tellTaken(group, taken)
	}
	p.finish(group)
	return nil
}

// blame makes what the queue refuses for good faults of the files that it came from,
// so that they go to rejected/ and hold up nothing.
func blame(group []*item, refused []run.Refused) {
	for _, r := range refused {
		at := r.At
		for _, it := range group {
			if at < len(it.result.HandIns) {
				it.result.Refuse(at, r)
				break
			}
			at -= len(it.result.HandIns)
		}
	}
}

// tellTaken tells what of the group was no news, unless it was read once more
// only because the daemon has started.
func (p *pass) tellTaken(group []*item, taken run.Taken) {
	news := false
	for _, it := range group {
		news = news || !it.look.quiet
	}
	if !news {
		return
	}
	if taken.Known > 0 {
		e := run.Event{Kind: run.RunKnown, Count: taken.Known, File: p.drop.path}
		if len(group) == 1 {
			e.File = group[0].path()
		}
		p.tell(e)
	}
	for i, id := range taken.Late {
		if i == maxLate {
			p.tell(run.Event{Kind: run.LabelsLate, Count: len(taken.Late) - i, Note: "further runs"})
			break
		}
		p.tell(run.Event{Kind: run.LabelsLate, Run: id})
	}
}

// finish moves files whose IDs are in the queue, makes that durable, and tells.
func (p *pass) finish(group []*item) {
	var told []run.Event
	touched := map[*folder]bool{}
	for _, it := range group {
		e, err := p.put(it, touched)
		switch {
		case errors.Is(err, fs.ErrNotExist) && it.from.free(it.name): // removed by hand, but taken
		case err != nil:
			p.failed(it, err)
		case e.Kind != "":
			told = append(told, e)
		}
		it.result = dropfile.Result{}
	}
	for f := range touched {
		if err := durable.Sync(f.dir); err != nil {
			p.unsynced.is(p, err, run.Event{Kind: run.DropTrouble, File: f.path, Note: "it cannot be synced; the run IDs are safe in the queue"})
		}
	}
	for _, e := range told {
		p.tell(e)
	}
}

// failed notes that a file could not be read or moved: told once for each cause,
// tried again later and later, and at once when the file changes (P5.9).
func (p *pass) failed(it *item, err error) {
	l := it.look
	l.failed(p.now)
	p.sooner(l.retry)
	if errors.Is(err, errFolder) { // which was told as such
		return
	}
	e := run.Event{File: it.path(), Err: err, Note: "tried again later"}
	if l.state != fresh {
		e.Note, e.Count = "its run IDs are in the queue, but the file cannot be moved away", l.count
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = fmt.Sprintf("user %d needs to read it: chmod g+r, or give it to this user", os.Geteuid())
		if l.state != fresh {
			e.Hint = fmt.Sprintf("user %d needs to write the drop directory, accepted/ and rejected/, and to remove files of others there", os.Geteuid())
		}
	}
	p.tellFile(l, e, err.Error())
}

// tellFile tells why a file is not taken, once for each reason, and of a few files
// a pass.
func (p *pass) tellFile(l *look, e run.Event, reason string) {
	if l.told == reason {
		return
	}
	l.told = reason
	if p.lines++; p.lines <= maxLines {
		e.Kind = FileTrouble
		p.tell(e)
	}
}
