package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

const (
	maxName   = 255     // bytes, on nearly every file system
	maxNames  = 100_000 // files of one name
	errorMode = 0o640
)

var errFolder = errors.New("the folder cannot be used")

// put brings a file whose IDs are in the queue to where it belongs: what holds
// anything wrong to rejected/, with the reasons beside it, the rest to accepted/.
// A file that was there already and has changed since goes from the one to the
// other where it was mended or spoiled. e is what there is to tell.
func (p *pass) put(it *item, touched map[*folder]bool) (e run.Event, err error) {
	l := it.look
	if l.state == fresh { // not one that could not be moved before
		l.state, l.count = toAccept, len(it.result.HandIns)-it.result.Refused
		if !it.result.OK() {
			l.state = toReject
		}
	}
	e = run.Event{Kind: run.FileAccepted, Count: l.count}
	to := p.accepted
	if l.state == toReject {
		e.Kind, to = run.FileRejected, p.rejected
		e.Note, e.Err = it.faults()
	}
	if it.from != p.drop {
		e.Note = strings.TrimSuffix("read again; "+e.Note, "; ")
	}
	if to.dir == nil {
		return e, fmt.Errorf("move %s: %w: %w", it.path(), errFolder, to.err)
	}
	name := it.name
	switch {
	case it.from != to:
		name, err = p.move(it, to)
		if err == nil && it.from == p.rejected { // mended: the old complaint goes
			err = it.from.remove(it.name + errorExt)
		}
		touched[it.from], touched[to] = true, true
	case to == p.rejected:
		var news bool
		if news, err = to.complain(it.name, it.report()); err != nil {
			l.state = fresh // without its faults at hand it has to be read once more
		} else if news {
			touched[to] = true
		}
	}
	if err != nil {
		return e, err
	}
	if it.from == to && l.quiet || to == p.rejected && it.result.OK() {
		e.Kind = "" // no news, or told when its faults are known
	}
	e.File = to.path + "/" + name
	p.settle(it, to, name)
	return e, nil
}

// settle remembers the file as it was read. Where it is another by now it will be
// read again.
func (p *pass) settle(it *item, to *folder, name string) {
	read := it.look.stamp
	delete(it.from.looks, it.name)
	state := idle
	st, err := to.lstat(name)
	if err != nil || !st.same(read) || it.result.OK() && to == p.rejected {
		state = fresh // changed since, or moved without its reasons, which need another reading
	}
	// Another file of this size and mtime may have taken its name before the move.
	// Some network mounts number a file anew when it moves: nothing is told of that.
	other := it.from != to && it.from.id.dev == to.id.dev && st.ino != read.ino && state == idle
	if other {
		state = fresh
	}
	if state == fresh || read.age(p.now) <= lookAgain {
		to.looks[name] = &look{stamp: read, since: p.now, seen: p.passes, state: state, quiet: other}
	}
	if state == fresh {
		to.next = p.now
		p.sooner(p.now.Add(secondLook))
	}
}

// faults is what to tell of the faults.
func (it *item) faults() (note string, first error) {
	if it.result.OK() {
		return "", nil
	}
	first = errors.New(it.result.Faults[0].String())
	if n := len(it.result.Faults) + it.result.Hidden; n > 1 {
		return fmt.Sprintf("the first of %d faults, all in the %s file beside it", n, errorExt), first
	}
	return "", first
}

// report is the text for beside the file; none where the file was not read.
func (it *item) report() []byte {
	if it.result.OK() {
		return nil
	}
	return []byte(it.result.Report(it.name))
}

// move moves a file into a folder under the first free of its names, the reasons
// for a rejection first, so that no rejected file ever stands without them.
func (p *pass) move(it *item, to *folder) (name string, err error) {
	temp := ""
	if report := it.report(); to == p.rejected && report != nil {
		if temp, err = to.writeTemp(report); err != nil {
			return "", err
		}
		defer func() { _ = to.remove(temp) }() // gone already, unless something failed
	}
	room := maxName
	if to == p.rejected {
		room -= len(errorExt)
	}
	for n := 1; n <= maxNames; n++ {
		name := numbered(it.name, n, room)
		beside := name + errorExt
		if !to.free(name) || to == p.rejected && !to.free(beside) {
			continue
		}
		if temp != "" {
			if err := rename(to, temp, to, beside); errors.Is(err, fs.ErrExist) {
				continue
			} else if err != nil {
				return "", err
			}
		}
		err := moveFile(it.from, it.name, to, name, it.look.stamp)
		if err == nil {
			return name, nil
		}
		if temp != "" {
			if back := rename(to, beside, to, temp); back != nil {
				return "", errors.Join(err, back)
			}
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("move %s to %s: %d files of this name are there", it.path(), to.path, maxNames)
}

// numbered is the name with -n before its extension, none for the first, cut to
// room bytes.
func numbered(name string, n, room int) string {
	ext := filepath.Ext(name)
	if len(ext) > 32 || ext == name {
		ext = ""
	}
	stem := name[:len(name)-len(ext)]
	suffix := ""
	if n > 1 {
		suffix = "-" + strconv.Itoa(n)
	}
	for len(stem)+len(suffix)+len(ext) > room {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + suffix + ext
}

// free reports whether nothing stands under the name.
func (f *folder) free(name string) bool {
	_, err := f.lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// remove removes a file; a name that does not exist is no error.
func (f *folder) remove(name string) error { return durable.Remove(f.dir, name) }

// setMode sets a new file's mode. File systems that refuse that set it by the mount.
func setMode(f *os.File, mode fs.FileMode) error {
	if err := f.Chmod(mode); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// writeTemp writes a file that Pending keeps from being read, synced. There is
// one at a time, and what a crash left of it is removed.
func (f *folder) writeTemp(data []byte) (name string, err error) {
	name = ".reasons.tmp"
	if err := f.remove(name); err != nil {
		return "", err
	}
	return name, durable.Create(f.dir, name, func(file *os.File) error {
		if err := setMode(file, errorMode); err != nil {
			return err
		}
		_, err := file.Write(data)
		return err
	})
}

// complain renews the reasons beside a file that was rejected before; news says
// that they are others now. These are ours, so they alone are ever replaced.
func (f *folder) complain(name string, report []byte) (news bool, err error) {
	beside := name + errorExt
	if old, err := f.openFile(beside); err == nil {
		text, err := io.ReadAll(io.LimitReader(old, int64(len(report))+1))
		_ = old.Close() // it was only read
		if err == nil && bytes.Equal(text, report) {
			return false, nil
		}
	}
	temp, err := f.writeTemp(report)
	if err != nil {
		return false, err
	}
	if err := durable.Rename(f.dir, temp, f.dir, beside); err != nil {
		return false, errors.Join(err, f.remove(temp))
	}
	return true, nil
}
