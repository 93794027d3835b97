package inbox

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "PLANTED5ecret"

// bench is an inbox with a real directory, a queue that remembers, and a record
// of what was told.
type bench struct {
	*Inbox
	t      *testing.T
	dir    string
	ledger *ledger

	mu   sync.Mutex
	told []run.Event
}

// ledger is a queue in memory.
type ledger struct {
	mu     sync.Mutex
	known  map[run.ID]map[string]string
	calls  int
	refuse func(ids []run.HandIn) error // before anything is taken
	taken  func(ids []run.HandIn)       // after it
	judge  func(in run.HandIn) *run.Refused
}

func (l *ledger) Add(ctx context.Context, ids []run.HandIn) (run.Taken, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.refuse != nil {
		if err := l.refuse(ids); err != nil {
			return run.Taken{}, err
		}
	}
	var t run.Taken
	for i, in := range ids {
		if l.judge != nil {
			if r := l.judge(in); r != nil {
				r.At = i
				t.Refused = append(t.Refused, *r)
				if r.NotTaken {
					continue
				}
			}
		}
		if _, ok := l.known[in.ID]; ok {
			t.Known++
			continue
		}
		t.New++
		l.known[in.ID] = in.Labels
	}
	if l.taken != nil {
		l.taken(ids)
	}
	return t, nil
}

// fail makes every further Add fail with err.
func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = func([]run.HandIn) error { return err }
}

// adds counts the calls of Add.
func (l *ledger) adds() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

func (l *ledger) ids() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id := range l.known {
		ids = append(ids, string(id))
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

var errDeaf = &os.SyscallError{Syscall: "inotify_init1", Err: unix.EMFILE}

// newBench makes an inbox without a watch: a real one would hold up the clock of a
// synctest bubble.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "data", "drop"), ledger: &ledger{known: map[run.ID]map[string]string{}}}
	if _, err := Prepare(b.dir); err != nil {
		t.Fatal(err)
	}
	b.restart()
	return b
}

// restart is a new inbox on the same directory and queue.
func (b *bench) restart() {
	b.Inbox = New(Config{Dir: b.dir, Settle: 2 * time.Second, Rescan: 10 * time.Second}, b.ledger, b.record)
	b.watch.open = func() (*fsnotify.Watcher, error) { return nil, errDeaf }
}

func (b *bench) record(e run.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Kind == WatchLost {
		return
	}
	b.told = append(b.told, e)
}

// events gives what was told since the last call, a line each.
func (b *bench) events() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, e := range b.told {
		line := strings.ReplaceAll(fmt.Sprintf("%s %s %d", e.Kind, e.File, e.Count), b.dir, "drop")
		if e.Run != "" {
			line += " " + string(e.Run)
		}
		lines = append(lines, line)
	}
	b.told = nil
	return lines
}

func (b *bench) expect(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.events()); diff != "" {
		b.t.Errorf("told (-want +got):\n%s", diff)
	}
}

// start runs the inbox until the function given back is called.
func (b *bench) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}
}

// rest lets the time of the bubble pass, and the inbox come to rest.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// write writes a file whose mtime is now, by the clock of the bubble.
func (b *bench) write(name, data string) { b.writeAt(name, data, time.Now()) }

// writeAt writes a file with that mtime, with a line feed at the end of a text.
func (b *bench) writeAt(name, data string, mtime time.Time) {
	b.t.Helper()
	if data != "" && filepath.Ext(name) != ".json" && !strings.HasSuffix(data, "\n") {
		data += "\n"
	}
	b.cut(name, data, mtime)
}

// cut writes a file as it is, also where its text breaks off.
func (b *bench) cut(name, data string, mtime time.Time) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(data), 0o640); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		b.t.Fatal(err)
	}
}

// tree lists all files below the drop directory.
func (b *bench) tree() string {
	b.t.Helper()
	var names []string
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, b.dir+"/"))
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func (b *bench) read(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) holds(tree, ids string) {
	b.t.Helper()
	if got := b.tree(); got != tree {
		b.t.Errorf("directory holds %q, want %q", got, tree)
	}
	if got := b.ledger.ids(); got != ids {
		b.t.Errorf("queue holds %q, want %q", got, ids)
	}
}
