package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// socketName is the daemon's socket in state.dir.
const socketName = "assetd.sock"

// Socket is the path of the daemon's unix socket.
func (s State) Socket() string { return filepath.Join(s.Dir, socketName) }

// maxSocket is the longest path that a unix socket can have, in bytes: the kernel
// wants it to end with a NUL.
const maxSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

// overlap is two directories that may not lie as they do: key's is the directory
// named below in other's, or, where deep, anything within that.
type overlap struct {
	key, other, below string
	deep              bool
	why               string
}

// overlaps are the ways in which one of the three directories breaks what another
// promises. All other ways are unwise at most.
func overlaps() []overlap {
	const (
		taken  = "the queue's own files would be taken for drop files"
		names  = "drop files and the directories of runs would be in each other's way"
		swept  = "what assetd does not know there is removed at each start"
		answer = "only the queue's answers live there, and " + swept
	)
	return []overlap{
		{"drop.dir", "state.dir", "", false, taken},
		{"state.dir", "drop.dir", "accepted", false, taken},
		{"state.dir", "drop.dir", "rejected", false, taken},
		{"storage.dir", "drop.dir", "", false, names},
		{"storage.dir", "drop.dir", "accepted", false, names},
		{"storage.dir", "drop.dir", "rejected", false, names},
		{"drop.dir", "state.dir", "answers", true, answer},
		{"storage.dir", "state.dir", "answers", true, answer},
		{"drop.dir", "storage.dir", ".assetd", true, swept},
		{"state.dir", "storage.dir", ".assetd", true, swept},
	}
}

// judgeDirs looks at where the directories lie, by their names alone: a volume
// that does not answer must not hold up the reading of a configuration.
func (l *loader) judgeDirs(c *Config) {
	if n := len(c.State.Socket()); n > maxSocket {
		l.clash("state.dir", "data_dir", func(string) (string, string) {
			return fmt.Sprintf("is too long: the path of its socket, %s, has %d bytes and a unix socket's at most %d", socketName, n, maxSocket),
				fmt.Sprintf("set state.dir to a path of at most %d bytes", maxSocket-len("/"+socketName))
		})
	}
	dirs := c.dirs()
	for _, o := range overlaps() {
		at := filepath.Join(dirs[o.other], o.below)
		if dirs[o.key] != at && !(o.deep && within(dirs[o.key], at)) {
			continue
		}
		l.clash(o.key, o.other, func(string) (string, string) {
			where := "is the same as " + o.other
			if o.below != "" {
				where = fmt.Sprintf("is the directory %s of %s", o.below, o.other)
			}
			if dirs[o.key] != at {
				where = fmt.Sprintf("lies in the directory %s of %s", o.below, o.other)
			}
			return where, "write another directory: " + o.why
		})
	}
}

func (c *Config) dirs() map[string]string {
	return map[string]string{"drop.dir": c.Drop.Dir, "state.dir": c.State.Dir, "storage.dir": c.Storage.Dir}
}

// unwiseDirs looks at directories that lie within each other and break nothing by
// that.
func (c *Config) unwiseDirs() []Warning {
	dirs := c.dirs()
	keys := []string{"drop.dir", "state.dir", "storage.dir"}
	var warnings []Warning
	for _, inner := range keys {
		for _, outer := range keys {
			if inner != outer && within(dirs[inner], dirs[outer]) && (dirs[inner] != dirs[outer] || inner < outer) {
				warnings = append(warnings, Warning{inner, fmt.Sprintf("lies within %s: their files will mix", outer)})
			}
		}
	}
	return warnings
}

// within reports whether dir is outer or below it, by their names alone.
func within(dir, outer string) bool {
	rel, err := filepath.Rel(outer, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
