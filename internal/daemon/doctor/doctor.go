// Package doctor answers "is this machine ready?" for assetd check: directories, volume,
// free space, key, secrets, API, clock, CDN and backlog.
//
// It changes nothing, except for a file in storage.dir that it removes again. A running
// daemon is asked for what only it can know.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/server"
)

// Check is the result of one check.
type Check struct {
	About string
	Grade Grade
	Text  string
	Hint  string // what to do; empty where nothing is to be done
}

// Grade is how serious a result is.
type Grade string

// The grades. Only a Bad one means that the machine is not ready.
const (
	Good Grade = "ok"
	Note Grade = "note"
	Bad  Grade = "BAD"
)

// doctor gathers the results for one configuration.
type doctor struct {
	cfg       *config.Config
	key       string
	results   []Check
	running   bool         // a daemon has the state directory
	daemonKey bool         // only that daemon has the key
	queue     *queue.Queue // for reading; nil: there is none, or it cannot be read
	made      bool         // there is a queue
	otherUser bool         // the daemon is another user's, and cannot be asked
}

func (d *doctor) add(about string, grade Grade, hint, format string, args ...any) {
	d.results = append(d.results, Check{about, grade, fmt.Sprintf(format, args...), hint})
}

// Run checks whether this machine is ready for a configuration. keyErr says why there is
// no key. If offline is true neither the API nor a CDN is asked.
func Run(ctx context.Context, c *config.Config, key string, keyErr error, offline bool) []Check {
	d := &doctor{cfg: c, key: key}
	d.state(ctx)
	d.apiKey(keyErr)
	d.secrets()
	d.hook()
	d.listen(ctx)
	if !d.otherUser {
		d.dropDir()
		d.volume()
	}
	d.api(ctx, offline)
	d.cdn(ctx, offline)
	d.backlog(ctx)
	if d.queue != nil {
		d.queue.Close() //nolint:errcheck // it was open for reading only
	}
	return d.results
}

// state checks the state directory, and whether a daemon runs on it.
func (d *doctor) state(ctx context.Context) {
	dir := d.cfg.State.Dir
	h, err := server.NewClient(d.cfg.State.Socket()).Health(ctx, true)
	d.running = !errors.Is(err, server.ErrNoDaemon)
	switch {
	case err == nil && h.OK:
		d.add("daemon", Good, "", "one runs on %s and is ready", dir)
	case err == nil:
		d.add("daemon", Bad, "see each reason, and the daemon's log", "one runs on %s and is not ready: %s", dir, strings.Join(h.Reasons, "; "))
	case errors.Is(err, fs.ErrPermission) && d.ofOtherUser(dir):
	case errors.Is(err, fs.ErrPermission):
		d.add("daemon", Bad, "check as root or as the daemon's user, like sudo -u assetd assetd check", "%v", err)
	case d.running:
		d.add("daemon", Bad, "look at the daemon's log, or stop it and check again", "%v", err)
	case d.ofOtherUser(dir):
	default:
		d.openQueue(dir)
	}
}

// ofOtherUser reports whether the daemon of this configuration is another user's, and adds
// a result that says so: what its directories allow this user does not show whether it can
// work.
func (d *doctor) ofOtherUser(stateDir string) bool {
	me := os.Geteuid()
	for _, dir := range []string{stateDir, d.cfg.DataDir} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			continue
		}
		if d.otherUser = me != 0 && int(st.Uid) != me && st.Uid != 0; d.otherUser {
			who := userName(st.Uid)
			d.add("daemon", Bad, "check as that user, sudo -u "+who+" assetd check, or as root",
				"the daemon of %s is %s's (uid %d), to whom %s belongs: user %d cannot see what it can use", stateDir, who, st.Uid, dir, me)
		}
		return d.otherUser
	}
	return false
}

// userName returns the name of a user, or #ID, which sudo accepts as well.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}

// listen checks whether server.listen can be opened. A running daemon has it, or reports
// itself that it has not.
func (d *doctor) listen(ctx context.Context) {
	address := d.cfg.Server.Listen
	if address == "" || d.running {
		return
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		d.add("server.listen", Good, "", "%s is free", address)
		l.Close() //nolint:errcheck // nothing was sent on it
	case errors.Is(err, unix.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		d.add("server.listen", Bad, "stop that process (ss -ltnp 'sport = :"+port+"' names it), or set server.listen to an address that is free",
			"another process listens on %s: dashboard, metrics and API would not be reached there", address)
	default:
		d.add("server.listen", Bad, "set server.listen to an address of this machine that this user may open, or to nothing for the socket alone", "%v", err)
	}
}

// openQueue checks the queue, and keeps it open, unless a daemon has it.
func (d *doctor) openQueue(dir string) {
	q, err := queue.Open(dir, queue.Options{ReadOnly: true, LockWait: time.Second})
	d.made = !absent(err)
	var unfit *boltkv.FilesystemError
	switch {
	case err == nil:
		d.queue = q
		for _, w := range q.Warnings() {
			d.add("queue", Note, "", "%s", w)
		}
		if d.allowed("queue", boltkv.Path(dir), unix.R_OK|unix.W_OK) && d.allowed("state.dir", dir, unix.R_OK|unix.W_OK|unix.X_OK) {
			d.add("queue", Good, "", "%s", boltkv.Path(dir))
		}
	case !d.made:
		d.futureState(dir)
	case errors.As(err, &unfit):
		d.add("state.dir", Bad, "set state.dir to a directory on a local disk", "%v", err)
	case errors.Is(err, boltkv.ErrLocked):
		d.add("queue", Bad, "wait until the command that has it has ended, and check again", "%v", err)
	default:
		d.add("queue", Bad, "assetd run will not start either: fix this first", "%v", err)
	}
}

// futureState checks the place where the first start will make the state directory.
func (d *doctor) futureState(dir string) {
	at, ok := d.writable("state.dir", dir)
	if !ok {
		return
	}
	switch warning, err := boltkv.Suitable(at); {
	case err != nil:
		d.add("state.dir", Bad, "set state.dir to a directory on a local disk", "%v", err)
	case warning != "":
		d.add("state.dir", Note, "", "%s", warning)
	default:
		d.add("state.dir", Good, "", "%s: the first start makes the queue there", dir)
	}
}

// writable returns dir, or the nearest directory above it that exists, and whether it can
// be written. If not, it adds a result.
func (d *doctor) writable(key, dir string) (at string, ok bool) {
	for at = dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			d.add(key, Bad, "set "+key+" to a directory, or move that file away", "%s is not a directory", at)
			return at, false
		case err == nil && at != dir:
			return at, d.mayMake(key, dir, at)
		case err == nil:
			return at, d.allowed(key, at, unix.W_OK|unix.X_OK)
		case !absent(err) || at == filepath.Dir(at):
			d.add(key, Bad, d.grant(at), "%v", err)
			return at, false
		}
	}
}

// absent reports whether an error means that a path does not exist, or leads through a file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// allowed reports whether this process has this access to a path. If not, it adds a
// result.
func (d *doctor) allowed(key, path string, how uint32) bool {
	err := unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS)
	if err != nil {
		d.add(key, Bad, d.grant(path), "%s cannot be read and written: %v", path, err)
	}
	return err == nil
}

// mayMake is allowed for a directory that is yet to be made in another one. That one may be
// the system's: the hint does not say to change its mode.
func (d *doctor) mayMake(key, dir, in string) bool {
	err := unix.Faccessat(unix.AT_FDCWD, in, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		d.add(key, Bad, fmt.Sprintf("make %s and let uid %d have it, or choose another directory", dir, os.Geteuid()),
			"%s is not there, and cannot be made in %s: %v", dir, in, err)
	}
	return err == nil
}

func (d *doctor) grant(path string) string {
	return fmt.Sprintf("give uid %d read and write permission on %s, or choose another directory", os.Geteuid(), path)
}

// dropDir checks the drop directory as a daemon needs it. A running daemon reports itself
// what it lacks: then only this user's right to add drop files is checked.
func (d *doctor) dropDir() {
	dir := d.cfg.Drop.Dir
	if d.running {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			d.add("drop.dir", Note, "add runs as a member of its group, or as root", "uid %d may not add drop files to %s: %v", os.Geteuid(), dir, err)
			return
		}
		d.add("drop.dir", Good, "", "%s", dir)
		return
	}
	if _, err := os.Stat(dir); absent(err) {
		if _, ok := d.writable("drop.dir", dir); ok {
			d.add("drop.dir", Good, "", "%s: the first start makes it", dir)
		}
		return
	}
	for _, path := range []string{dir, filepath.Join(dir, "accepted"), filepath.Join(dir, "rejected")} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.IsDir() {
			d.add("drop.dir", Bad, "set drop.dir to a directory, or move that file away", "%s is not a directory", path)
			return
		}
		if !d.allowed("drop.dir", path, unix.R_OK|unix.W_OK|unix.X_OK) {
			return
		}
	}
	d.add("drop.dir", Good, "", "%s", dir)
}
