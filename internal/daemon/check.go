package daemon

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
	"github.com/assetd/assetd/internal/server"
)

// Finding is one answer to "is this machine ready?".
type Finding struct {
	About string
	Grade Grade
	Text  string
	Mend  string // what to do; empty where nothing is to be done
}

// Grade is how a finding is to be taken.
type Grade string

// The grades. Only a Bad one means that the machine is not ready.
const (
	Good Grade = "ok"
	Note Grade = "note"
	Bad  Grade = "BAD"
)

// checker gathers findings about one configuration.
type checker struct {
	cfg     *config.Config
	key     string
	found   []Finding
	running bool         // a daemon has the state directory
	itsKey  bool         // the key is that daemon's own, and not here
	queue   *queue.Queue // for reading; nil: there is none, or it cannot be read
	made    bool         // there is a queue
	others  bool         // the daemon is another user's, and cannot be asked
}

func (k *checker) add(about string, grade Grade, mend, format string, args ...any) {
	k.found = append(k.found, Finding{about, grade, fmt.Sprintf(format, args...), mend})
}

// Check looks whether this machine is ready for the configuration: state and drop
// directory, volume and what it can do, room, key (or why there is none), tokens and
// secrets, the program of hook.command, API, clock and CDN (unless offline), and the
// backlog. It changes nothing, but for a file in
// storage.dir that is taken away again. A daemon that runs is asked for what only it can
// know.
func Check(ctx context.Context, c *config.Config, key string, keyErr error, offline bool) []Finding {
	k := &checker{cfg: c, key: key}
	k.state(ctx)
	k.apiKey(keyErr)
	k.secrets()
	k.hook()
	k.listen(ctx)
	if !k.others {
		k.dropDir()
		k.volume()
	}
	k.api(ctx, offline)
	k.cdn(ctx, offline)
	k.backlog(ctx)
	if k.queue != nil {
		k.queue.Close() //nolint:errcheck // it was open for reading only
	}
	return k.found
}

// state looks at the state directory, and whether a daemon runs on it.
func (k *checker) state(ctx context.Context) {
	dir := k.cfg.State.Dir
	h, err := server.NewClient(k.cfg.State.Socket()).Health(ctx, true)
	k.running = !errors.Is(err, server.ErrNoDaemon)
	switch {
	case err == nil && h.OK:
		k.add("daemon", Good, "", "one runs on %s and is ready", dir)
	case err == nil:
		k.add("daemon", Bad, "see each reason, and the daemon's log", "one runs on %s and is not ready: %s", dir, strings.Join(h.Reasons, "; "))
	case errors.Is(err, fs.ErrPermission) && k.foreign(dir):
	case errors.Is(err, fs.ErrPermission):
		k.add("daemon", Bad, "check as root or as the daemon's user, like sudo -u assetd assetd check", "%v", err)
	case k.running:
		k.add("daemon", Bad, "look at the daemon's log, or stop it and check again", "%v", err)
	case k.foreign(dir):
	default:
		k.openQueue(dir)
	}
}

// foreign reports whether the daemon of this configuration is another user's, and says
// so: what its directories allow this user is no answer to whether it can work.
func (k *checker) foreign(stateDir string) bool {
	me := os.Geteuid()
	for _, dir := range []string{stateDir, k.cfg.DataDir} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			continue
		}
		if k.others = me != 0 && int(st.Uid) != me && st.Uid != 0; k.others {
			who := userName(st.Uid)
			k.add("daemon", Bad, "check as that user, sudo -u "+who+" assetd check, or as root",
				"the daemon of %s is %s's (uid %d), to whom %s belongs: user %d cannot see what it can use", stateDir, who, st.Uid, dir, me)
		}
		return k.others
	}
	return false
}

// userName is the name of a user, or #ID, which sudo takes, too.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}

// listen looks whether server.listen can be opened. A daemon that runs has it, or says
// itself that it has not.
func (k *checker) listen(ctx context.Context) {
	address := k.cfg.Server.Listen
	if address == "" || k.running {
		return
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		k.add("server.listen", Good, "", "%s is free", address)
		l.Close() //nolint:errcheck // nothing was said on it
	case errors.Is(err, unix.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		k.add("server.listen", Bad, "stop that process (ss -ltnp 'sport = :"+port+"' names it), or set server.listen to an address that is free",
			"another process listens on %s: dashboard, metrics and API would not be reached there", address)
	default:
		k.add("server.listen", Bad, "set server.listen to an address of this machine that this user may open, or to nothing for the socket alone", "%v", err)
	}
}

// openQueue looks at the queue, and keeps it open, where no daemon has it.
func (k *checker) openQueue(dir string) {
	q, err := queue.Open(dir, queue.Options{ReadOnly: true, LockWait: time.Second})
	k.made = !absent(err)
	var unfit *queue.FilesystemError
	switch {
	case err == nil:
		k.queue = q
		for _, w := range q.Warnings() {
			k.add("queue", Note, "", "%s", w)
		}
		if k.allowed("queue", q.Path(), unix.R_OK|unix.W_OK) && k.allowed("state.dir", dir, unix.R_OK|unix.W_OK|unix.X_OK) {
			k.add("queue", Good, "", "%s", q.Path())
		}
	case !k.made:
		k.futureState(dir)
	case errors.As(err, &unfit):
		k.add("state.dir", Bad, "set state.dir to a directory on a local disk", "%v", err)
	case errors.Is(err, queue.ErrLocked):
		k.add("queue", Bad, "wait until the command that has it has ended, and check again", "%v", err)
	default:
		k.add("queue", Bad, "assetd run will not start either: mend this first", "%v", err)
	}
}

// futureState looks at where the first start will make the state directory.
func (k *checker) futureState(dir string) {
	at, ok := k.writable("state.dir", dir)
	if !ok {
		return
	}
	switch warning, err := queue.Suitable(at); {
	case err != nil:
		k.add("state.dir", Bad, "set state.dir to a directory on a local disk", "%v", err)
	case warning != "":
		k.add("state.dir", Note, "", "%s", warning)
	default:
		k.add("state.dir", Good, "", "%s: the first start makes the queue there", dir)
	}
}

// writable gives the directory, or the nearest above it that is there, and whether
// it can be written; where not, it says so.
func (k *checker) writable(key, dir string) (at string, ok bool) {
	for at = dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			k.add(key, Bad, "set "+key+" to a directory, or move that file away", "%s is not a directory", at)
			return at, false
		case err == nil && at != dir:
			return at, k.mayMake(key, dir, at)
		case err == nil:
			return at, k.allowed(key, at, unix.W_OK|unix.X_OK)
		case !absent(err) || at == filepath.Dir(at):
			k.add(key, Bad, k.grant(at), "%v", err)
			return at, false
		}
	}
}

// absent reports whether nothing stands at a path, be it for a file in its middle.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// allowed reports whether this process may use a path in a way; where not, it says
// so.
func (k *checker) allowed(key, path string, how uint32) bool {
	err := unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS)
	if err != nil {
		k.add(key, Bad, k.grant(path), "%s cannot be read and written: %v", path, err)
	}
	return err == nil
}

// mayMake is allowed for a directory that is still to be made in another one: that
// may well be the system's, and is to stay so.
func (k *checker) mayMake(key, dir, in string) bool {
	err := unix.Faccessat(unix.AT_FDCWD, in, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		k.add(key, Bad, fmt.Sprintf("make %s and let uid %d have it, or choose another directory", dir, os.Geteuid()),
			"%s is not there, and cannot be made in %s: %v", dir, in, err)
	}
	return err == nil
}

func (k *checker) grant(path string) string {
	return fmt.Sprintf("give uid %d read and write permission on %s, or choose another directory", os.Geteuid(), path)
}

// dropDir looks at the drop directory as a daemon needs it; where one runs, it says
// for itself what it lacks, and what counts here is who may hand in.
func (k *checker) dropDir() {
	dir := k.cfg.Drop.Dir
	if k.running {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			k.add("drop.dir", Note, "hand in as a member of its group, or as root", "uid %d may not hand in at %s: %v", os.Geteuid(), dir, err)
			return
		}
		k.add("drop.dir", Good, "", "%s", dir)
		return
	}
	if _, err := os.Stat(dir); absent(err) {
		if _, ok := k.writable("drop.dir", dir); ok {
			k.add("drop.dir", Good, "", "%s: the first start makes it", dir)
		}
		return
	}
	for _, d := range []string{dir, filepath.Join(dir, "accepted"), filepath.Join(dir, "rejected")} {
		info, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.IsDir() {
			k.add("drop.dir", Bad, "set drop.dir to a directory, or move that file away", "%s is not a directory", d)
			return
		}
		if !k.allowed("drop.dir", d, unix.R_OK|unix.W_OK|unix.X_OK) {
			return
		}
	}
	k.add("drop.dir", Good, "", "%s", dir)
}
