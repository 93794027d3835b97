package daemon

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

// volume looks at storage.dir and its room, from outside: it need never have been
// used, and a daemon may be using it.
func (k *checker) volume() {
	c := pipeline.StorageConfig(k.cfg)
	used := false
	if k.queue != nil {
		var err error
		if used, err = k.queue.UsesVolume(c.Dir); err != nil {
			k.add("queue", Bad, "assetd run will not start either: mend this first", "%v", err)
			return
		}
	}
	future := false // the first start makes the directory
	if c.Default && !c.Mounted && !used && !k.running {
		at, ok := k.writable("storage.dir", c.Dir)
		if !ok {
			return
		}
		future = at != c.Dir
		c.Dir = at
	}
	v, err := storage.New(c, storage.Deps{})
	if err != nil {
		k.add("storage", Bad, "mend storage.run_dir and storage.file_name", "%v", err)
		return
	}
	sight, err := v.Look()
	switch {
	case err != nil && k.running && errors.Is(err, fs.ErrPermission):
		k.add("storage.dir", Note, "check as root or as the daemon's user, like sudo -u assetd assetd check", "not seen from here: %v", err)
		return
	case err != nil:
		k.add("storage.dir", Bad, k.volumeMend(c.Dir, err), "%v", err)
		return
	case future:
		k.add("storage.dir", Good, "", "%s: the first start makes it", k.cfg.Storage.Dir)
	default:
		k.owner(sight, used)
	}
	k.room(sight)
	if sight.Denied == nil {
		k.abilities(v)
	}
}

// abilities says what the volume cannot do.
func (k *checker) abilities(v *storage.Volume) {
	found, err := v.Try()
	if err != nil {
		k.add("volume", Note, "", "what it can do was not tried: %v", err)
		return
	}
	all := true
	for _, a := range found {
		switch {
		case a.Err == nil:
			continue
		case a.Without == "":
			k.add("volume", Bad, "choose another storage.dir, or mend the mount", "it cannot %s: %v", a.What, a.Err)
		default:
			k.add("volume", Note, "", "it cannot %s (%v): %s", a.What, a.Err, a.Without)
		}
		all = false
	}
	if all {
		k.add("volume", Good, "", "files and directories can be synced, renamed, locked and gone on with, room can be set aside, case counts")
	}
}

func (k *checker) volumeMend(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return k.grant(dir)
	case errors.Is(err, unix.EROFS):
		return "mount it writable, or mend storage.dir"
	case k.cfg.Storage.Mounted:
		return "mount the volume; or mend storage.dir, or storage.mounted where it is no mount"
	}
	return fmt.Sprintf("mount the right volume there, or make the directory, writable for uid %d; or mend storage.dir", os.Geteuid())
}

// owner says whose the volume is, and whether that will do.
func (k *checker) owner(s storage.Sight, used bool) {
	dir := k.cfg.Storage.Dir
	const take = "mount the right volume, mend storage.dir, or take this one on purpose: assetd check --adopt-volume"
	switch {
	case k.running && s.Queue == "":
		k.add("storage.dir", Bad, "mount the right volume; or stop the daemon and take this one on purpose: assetd check --adopt-volume",
			"%s has no marker, and a daemon runs: it does not use this directory", dir)
	case k.running:
		k.add("storage.dir", Good, "", "%s is volume %s; the daemon looks at it all the time", dir, s.Volume)
	case k.queue == nil && k.made:
		k.add("storage.dir", Note, "mend the queue first", "%s: nobody can say whether it is this queue's volume", dir)
	case s.Queue == "" && used:
		k.add("storage.dir", Bad, take, "%s has no marker (%s), so it is not the volume that this queue uses", dir, filepath.Join(".assetd", "volume"))
	case s.Queue != "" && k.queue == nil:
		k.add("storage.dir", Bad, take, "%s is volume %s of queue %s, and the one in %s is not made yet", dir, s.Volume, s.Queue, k.cfg.State.Dir)
	case s.Queue != "" && s.Queue != k.queue.ID():
		k.add("storage.dir", Bad, take, "%s is volume %s of queue %s, ours is queue %s", dir, s.Volume, s.Queue, k.queue.ID())
	case s.Denied != nil:
		k.add("storage.dir", Bad, k.volumeMend(dir, s.Denied), "%v", s.Denied)
	case s.Queue == "":
		k.add("storage.dir", Good, "", "%s: the first start takes it into use", dir)
	default:
		k.add("storage.dir", Good, "", "%s is this queue's volume and can be written", dir)
	}
}

func (k *checker) room(s storage.Sight) {
	least := humanize.IBytes(uint64(k.cfg.Storage.MinFree))
	switch {
	case s.SizeUnknown():
		k.add("room", Note, "watch it where it is: assetd finds out when a write fails", "the file system does not tell how much it has")
	case s.Free <= 0:
		k.add("room", Bad, "make room, or lower storage.min_free", "%s are missing to storage.min_free (%s): downloads would wait", humanize.IBytes(uint64(-s.Free)), least)
	default:
		k.add("room", Good, "", "%s above storage.min_free (%s)", humanize.IBytes(uint64(s.Free)), least)
	}
}
