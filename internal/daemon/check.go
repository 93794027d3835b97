package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
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
	cfg   *config.Config
	key   string
	found []Finding
	queue *queue.Queue // for reading; nil: there is none, or a daemon has it
}

func (k *checker) add(about string, grade Grade, mend, format string, args ...any) {
	k.found = append(k.found, Finding{about, grade, fmt.Sprintf(format, args...), mend})
}

// Check looks whether this machine is ready for the configuration: state and drop
// directory, volume, room, key and API (unless offline). It changes nothing. A
// daemon that runs is asked for what only it can know.
func Check(ctx context.Context, c *config.Config, key string, offline bool) []Finding {
	k := &checker{cfg: c, key: key}
	running := k.state(ctx)
	k.dropDir()
	if !running {
		k.volume()
	}
	if k.queue != nil {
		k.queue.Close() //nolint:errcheck // it was open for reading only
	}
	if offline {
		k.add("API", Note, "", "not asked (--offline)")
	} else {
		k.api(ctx)
	}
	return k.found
}

// state looks at the state directory and reports whether a daemon runs on it.
func (k *checker) state(ctx context.Context) (running bool) {
	dir := k.cfg.State.Dir
	h, err := server.NewClient(k.cfg.State.Socket()).Health(ctx, true)
	switch {
	case err == nil && h.OK:
		k.add("daemon", Good, "", "one runs on %s and is ready", dir)
		return true
	case err == nil:
		k.add("daemon", Bad, "see each reason, and the daemon's log", "one runs on %s and is not ready: %s", dir, strings.Join(h.Reasons, "; "))
		return true
	case !errors.Is(err, server.ErrNoDaemon):
		k.add("daemon", Bad, "", "%v", err)
	}
	q, err := queue.Open(dir, queue.Options{ReadOnly: true, LockWait: time.Second})
	var unfit *queue.FilesystemError
	switch {
	case err == nil:
		k.queue = q
		k.add("queue", Good, "", "%s can be read", q.Path())
		for _, w := range q.Warnings() {
			k.add("queue", Note, "", "%s", w)
		}
	case errors.Is(err, fs.ErrNotExist):
		k.writable("state.dir", dir, "the first start makes the queue there")
	case errors.As(err, &unfit):
		k.add("state.dir", Bad, "", "%v", err)
	default:
		k.add("queue", Bad, "", "%v", err)
	}
	return false
}

// writable looks whether a directory, or the nearest above it that is there, can
// be written.
func (k *checker) writable(key, dir, note string) {
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			k.add(key, Bad, "set "+key+" to a directory", "%s is not a directory", at)
			return
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			k.add(key, Bad, k.grant(at), "%v", err)
			return
		}
		at = filepath.Dir(at)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		k.add(key, Bad, k.grant(at), "%s cannot be written: %v", at, err)
		return
	}
	k.add(key, Good, "", "%s: %s", dir, note)
}

func (k *checker) grant(path string) string {
	return fmt.Sprintf("give uid %d read, write and search permission on %s, or set data_dir to a directory of yours", os.Getuid(), path)
}

func (k *checker) dropDir() {
	dir := k.cfg.Drop.Dir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		k.writable("drop.dir", dir, "the first start makes it")
		return
	}
	for _, d := range []string{dir, filepath.Join(dir, "accepted"), filepath.Join(dir, "rejected")} {
		if err := unix.Access(d, unix.R_OK|unix.W_OK|unix.X_OK); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.add("drop.dir", Bad, k.grant(d), "%s cannot be read and written: %v", d, err)
			return
		}
	}
	k.add("drop.dir", Good, "", "%s", dir)
}

// volume looks at a volume that no daemon uses at the moment.
func (k *checker) volume() {
	dir := k.cfg.Storage.Dir
	used := false
	if k.queue != nil {
		var err error
		if used, err = k.queue.UsesVolume(dir); err != nil {
			k.add("storage.dir", Bad, "", "%v", err)
			return
		}
	}
	if !used {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !k.cfg.Storage.Default {
			k.add("storage.dir", Bad, "mount or make it, or mend the setting", "%s is not there", dir)
			return
		}
		k.writable("storage.dir", dir, "the first start takes it into use")
		return
	}
	v, err := storage.New(storageConfig(k.cfg), storage.Deps{Ledger: k.queue, Tell: func(run.Event) {}})
	if err != nil {
		k.add("storage", Bad, "", "%v", err)
		return
	}
	if err := v.Check(); err != nil {
		k.add("storage.dir", Bad, "", "%v", err)
		return
	}
	k.add("storage.dir", Good, "", "%s is this queue's volume and can be written", dir)
	k.room(v)
}

func (k *checker) room(v *storage.Volume) {
	free, err := v.Free()
	switch {
	case err != nil:
		k.add("room", Bad, "", "%v", err)
	case free <= 0:
		k.add("room", Bad, "make room, or lower storage.min_free", "no room above storage.min_free (%s)", humanize.IBytes(uint64(k.cfg.Storage.MinFree)))
	default:
		k.add("room", Good, "", "%s above storage.min_free", humanize.IBytes(uint64(free)))
	}
}

// checkID is asked for to see whether the key is accepted. It is no run's: SQIDs
// have no hyphen.
const checkID run.ID = "assetd-check"

// skewToTell is a difference of clocks that a person should know of.
const skewToTell = 30 * time.Second

// api asks the API once.
func (k *checker) api(ctx context.Context) {
	if k.key == "" {
		k.add("API", Bad, "", "not asked: there is no key")
		return
	}
	clk := clock.New()
	client, err := magnific.New(apiConfig(k.cfg), k.key, clk, func(run.Event) {})
	if err != nil {
		k.add("API", Bad, "", "%v", err)
		return
	}
	_, err = client.Get(ctx, checkID)
	var refusal *run.Refusal
	switch {
	case err == nil:
		k.add("API", Good, "", "%s accepts the key", client.Host())
	case !errors.As(err, &refusal):
		k.add("API", Bad, "", "%s: %v", client.Host(), err)
	case refusal.Kind == run.NotFound, refusal.Kind == run.RateLimited:
		k.add("API", Good, "", "%s accepts the key (it answered %d)", client.Host(), refusal.Status)
	case refusal.Kind == run.Unauthorized, refusal.Kind == run.Forbidden:
		k.add("API", Bad, "set the key anew: $ASSETD_API_KEY, api.key_file or the credential api-key", "%s: %v", client.Host(), err)
	case refusal.Kind == run.Unreachable:
		k.add("API", Bad, "look at the network, DNS, api.base_url and api.proxy", "%s: %v", client.Host(), err)
	default:
		k.add("API", Bad, "look at api.base_url and api.runs_path", "%s: %v", client.Host(), err)
	}
	if skew, known := clk.Skew(client.Host()); known && skew.Abs() > skewToTell {
		k.add("clock", Note, "let NTP set this machine's clock", "%v away from %s's: deadlines are reckoned by the server's", skew, client.Host())
	}
}

// AdoptVolume takes a new or foreign volume for this configuration's queue, on
// purpose. No daemon may run.
func AdoptVolume(ctx context.Context, c *config.Config, tell run.Tell) error {
	if err := makeStateDir(c.State.Dir); err != nil {
		return err
	}
	q, err := queue.Open(c.State.Dir, queue.Options{LockWait: time.Second})
	if errors.Is(err, queue.ErrLocked) {
		return fmt.Errorf("%w: stop the daemon first, it takes the volume at its next start", err)
	}
	if err != nil {
		return err
	}
	v, err := storage.New(storageConfig(c), storage.Deps{Ledger: q, Tell: tell})
	if err == nil {
		err = v.Adopt(ctx)
	}
	return errors.Join(err, q.Close())
}
