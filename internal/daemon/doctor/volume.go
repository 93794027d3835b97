package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/storage"
)

// volume checks storage.dir and its free space without taking it into use: it may never
// have been used, and a daemon may be using it.
func (d *doctor) volume() {
	c := pipeline.StorageConfig(d.cfg)
	used := false
	if d.queue != nil {
		var err error
		if used, err = d.queue.UsesVolume(c.Dir); err != nil {
			d.add("queue", Bad, "assetd run will not start either: fix this first", "%v", err)
			return
		}
	}
	future := false // the first start makes the directory
	if c.Default && !c.Mounted && !used && !d.running {
		at, ok := d.writable("storage.dir", c.Dir)
		if !ok {
			return
		}
		future = at != c.Dir
		c.Dir = at
	}
	v, err := storage.New(c, storage.Deps{})
	if err != nil {
		d.add("storage", Bad, "correct storage.run_dir and storage.file_name", "%v", err)
		return
	}
	sight, err := v.Look()
	switch {
	case err != nil && d.running && errors.Is(err, fs.ErrPermission):
		d.add("storage.dir", Note, "check as root or as the daemon's user, like sudo -u assetd assetd check", "not seen from here: %v", err)
		return
	case err != nil:
		d.add("storage.dir", Bad, d.volumeHint(c.Dir, err), "%v", err)
		return
	case future:
		d.add("storage.dir", Good, "", "%s: the first start makes it", d.cfg.Storage.Dir)
	default:
		d.owner(sight, used)
	}
	d.room(sight)
	if sight.Denied == nil {
		d.capabilities(v)
	}
}

// capabilities adds what the volume cannot do.
func (d *doctor) capabilities(v *storage.Volume) {
	found, err := v.Capabilities()
	if err != nil {
		d.add("volume", Note, "", "what it can do was not tried: %v", err)
		return
	}
	all := true
	for _, a := range found {
		switch {
		case a.Err == nil:
			continue
		case a.Fallback == "":
			d.add("volume", Bad, "choose another storage.dir, or fix the mount", "it cannot %s: %v", a.What, a.Err)
		default:
			d.add("volume", Note, "", "it cannot %s (%v): %s", a.What, a.Err, a.Fallback)
		}
		all = false
	}
	if all {
		d.add("volume", Good, "", "files and directories can be synced, renamed, locked and gone on with, room can be set aside, case counts")
	}
}

func (d *doctor) volumeHint(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return d.grant(dir)
	case errors.Is(err, unix.EROFS):
		return "mount it writable, or correct storage.dir"
	case d.cfg.Storage.Mounted:
		return "mount the volume; or correct storage.dir, or storage.mounted if it is no mount"
	}
	return fmt.Sprintf("mount the right volume there, or make the directory, writable for uid %d; or correct storage.dir", os.Geteuid())
}

// owner checks which queue the volume belongs to.
func (d *doctor) owner(s storage.Sight, used bool) {
	dir := d.cfg.Storage.Dir
	const take = "mount the right volume, correct storage.dir, or take this one on purpose: assetd check --adopt-volume"
	switch {
	case d.running && s.Queue == "":
		d.add("storage.dir", Bad, "mount the right volume; or stop the daemon and take this one on purpose: assetd check --adopt-volume",
			"%s has no marker, and a daemon runs: it does not use this directory", dir)
	case d.running:
		d.add("storage.dir", Good, "", "%s is volume %s; the daemon looks at it all the time", dir, s.Volume)
	case d.queue == nil && d.made:
		d.add("storage.dir", Note, "fix the queue first", "%s: it is not known whether it is this queue's volume", dir)
	case s.Queue == "" && used:
		d.add("storage.dir", Bad, take, "%s has no marker (%s), so it is not the volume that this queue uses", dir, filepath.Join(".assetd", "volume"))
	case s.Queue != "" && d.queue == nil:
		d.add("storage.dir", Bad, take, "%s is volume %s of queue %s, and the one in %s is not made yet", dir, s.Volume, s.Queue, d.cfg.State.Dir)
	case s.Queue != "" && s.Queue != d.queue.ID():
		d.add("storage.dir", Bad, take, "%s is volume %s of queue %s, ours is queue %s", dir, s.Volume, s.Queue, d.queue.ID())
	case s.Denied != nil:
		d.add("storage.dir", Bad, d.volumeHint(dir, s.Denied), "%v", s.Denied)
	case s.Queue == "":
		d.add("storage.dir", Good, "", "%s: the first start takes it into use", dir)
	default:
		d.add("storage.dir", Good, "", "%s is this queue's volume and can be written", dir)
	}
}

// room checks the free space.
func (d *doctor) room(s storage.Sight) {
	least := humanize.IBytes(uint64(d.cfg.Storage.MinFree))
	switch {
	case s.SizeUnknown():
		d.add("room", Note, "watch it where it is: assetd finds out when a write fails", "the file system does not report its size")
	case s.Free <= 0:
		d.add("room", Bad, "make room, or lower storage.min_free", "%s are missing to storage.min_free (%s): downloads would wait", humanize.IBytes(uint64(-s.Free)), least)
	default:
		d.add("room", Good, "", "%s above storage.min_free (%s)", humanize.IBytes(uint64(s.Free)), least)
	}
}
