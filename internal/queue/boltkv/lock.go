package boltkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/durable"
)

// ErrLocked means that another process has the file open.
var ErrLocked = errors.New("another assetd runs on this state directory")

// lockDir locks the state directory itself, for one writer or several readers.
// bbolt locks its file, but that file is replaced when it is compacted, and whoever
// waits for its lock then gets the lock of a file that is no longer there.
func lockDir(dir string, shared bool, wait time.Duration) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	until := time.Now().Add(wait)
	for {
		err := durable.Control(f, func(fd int) error { return unix.Flock(fd, how|unix.LOCK_NB) })
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		case !time.Now().Before(until):
			_ = f.Close()
			return nil, locked(dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Locked reports whether a process holds the state directory: a daemon, from the first
// moments of its start on, or a command that has the file open.
func Locked(dir string) bool {
	f, err := lockDir(dir, true, 0)
	if f != nil {
		_ = f.Close() // which releases it
	}
	return errors.Is(err, ErrLocked)
}

func locked(what string) error {
	return fmt.Errorf("%w: %s is locked by a daemon, or by a command that opened the queue itself; stop that one, or ask it through its socket", ErrLocked, what)
}

// missing reports whether there is no file at all.
func missing(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
