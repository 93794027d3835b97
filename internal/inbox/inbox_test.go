package inbox

import (
	"context"
	"errors"
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
	for _, in := range ids {
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
	if err := Prepare(b.dir); err != nil {
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

func (b *bench) writeAt(name, data string, mtime time.Time) {
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

func TestFilesGoToAcceptedOrRejectedWithAllTheirGoodIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt("omps2OH829", "", old)
		b.writeAt("later.json", "", old)
		b.writeAt("list.txt", "run1\nrun2\n", old)
		b.writeAt("bad.txt", "run3\nhttps://h/p?token="+secret+"\n", old)
		b.writeAt("half.json", `["run4", {"run_id": "ru`, old)
		b.writeAt(".hidden", "run9", old)
		b.writeAt("x.part", "run9", old)
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds(".hidden accepted/list.txt accepted/omps2OH829 later.json rejected/bad.txt rejected/bad.txt.error "+
			"rejected/half.json rejected/half.json.error x.part", "omps2OH829 run1 run2 run3 run4")
		got := b.events()
		slices.Sort(got)
		want := []string{
			"drop file accepted drop/accepted/list.txt 2", "drop file accepted drop/accepted/omps2OH829 1",
			"drop file rejected drop/rejected/bad.txt 1", "drop file rejected drop/rejected/half.json 1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		report := b.read("rejected/bad.txt.error")
		if !strings.Contains(report, "line 2: \"https://h/p\"") || strings.Contains(report, secret) || !strings.Contains(report, "1 ID was taken") {
			t.Errorf("report:\n%s", report)
		}
		if b.ledger.calls != 1 {
			t.Errorf("%d commits for one batch of files", b.ledger.calls)
		}
	})
}

func TestAFileIsTakenOnceItsSizeAndMtimeAreUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		start := time.Now()
		var at []time.Duration
		b.ledger.taken = func(ids []run.HandIn) { at = append(at, time.Since(start)) }
		stop := b.start()
		defer stop()
		text := ""
		for i := range 30 { // written slowly, without a rename
			text += fmt.Sprintf("run%02d\n", i)
			b.write("slow.txt", text)
			b.Wake()
			rest(time.Second)
		}
		rest(time.Minute)
		if want := []time.Duration{31 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("taken at %v, want %v", at, want)
		}
		b.expect("drop file accepted drop/accepted/slow.txt 30")
	})
}

func TestAnOldFileIsTakenAfterTwoLooks(t *testing.T) {
	for name, c := range map[string]struct{ age, want time.Duration }{
		"old":         {time.Hour, secondLook},
		"almost old":  {1990 * time.Millisecond, secondLook},
		"half old":    {time.Second, time.Second},
		"new":         {0, 2 * time.Second},
		"from future": {-time.Hour, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				start := time.Now()
				var at time.Duration
				b.ledger.taken = func([]run.HandIn) { at = time.Since(start) }
				b.writeAt("list.txt", "run1", start.Add(-c.age))
				stop := b.start()
				rest(5 * time.Second)
				stop()
				if at != c.want {
					t.Errorf("taken after %v, want %v", at, c.want)
				}
			})
		})
	}
}

func TestAFileThatChangesBetweenTwoLooksIsNotTakenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt("x.txt", "run1", old)
		stop := b.start()
		defer stop()
		rest(secondLook / 2)
		b.writeAt("x.txt", "run1longer", old) // the mtime alone would not tell
		rest(secondLook)
		b.holds("x.txt", "")
		rest(10 * time.Second)
		b.holds("accepted/x.txt", "run1longer")
	})
}

func TestAnEmptyFileWaitsUntilItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.write("x.json", "")
		stop := b.start()
		defer stop()
		rest(time.Hour)
		b.holds("x.json", "")
		b.write("x.json", `"run1"`)
		rest(13 * time.Second)
		b.holds("accepted/x.json", "run1")
		b.expect("drop file accepted drop/accepted/x.json 1")
	})
}

func TestNothingMovesBeforeTheQueueHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		full := errors.New("no room for the queue")
		var tries []time.Duration
		start := time.Now()
		b.ledger.refuse = func(ids []run.HandIn) error {
			if got := b.tree(); got != "bad.txt x.txt y.txt" {
				t.Errorf("moved before the commit: %s", got)
			}
			tries = append(tries, time.Since(start))
			if time.Since(start) < 10*time.Minute {
				return full
			}
			return nil
		}
		old := start.Add(-time.Hour)
		b.writeAt("x.txt", "xrun\n", old)
		b.writeAt("y.txt", "yrun\n", old)
		b.writeAt("bad.txt", "badrun\n!\n", old)
		stop := b.start()
		defer stop()
		rest(5 * time.Minute)
		b.expect("queue cannot be written drop/" + firstFile(b) + " 3")
		rest(7 * time.Minute)
		b.holds("accepted/x.txt accepted/y.txt rejected/bad.txt rejected/bad.txt.error", "badrun xrun yrun")
		if len(tries) < 10 || len(tries) > 60 {
			t.Errorf("%d tries in 10 minutes: %v", len(tries), tries)
		}
		for i := range 2 { // each outage that was over in between is told
			name := fmt.Sprintf("z%d.txt", i)
			b.events()
			b.ledger.fail(full)
			b.writeAt(name, "zrun\n", time.Now().Add(-time.Hour))
			rest(15 * time.Second)
			b.expect("queue cannot be written drop/" + name + " 1")
			b.ledger.fail(nil)
			rest(time.Minute)
		}
	})
}

// firstFile is the file that a listing gives first.
func firstFile(b *bench) string {
	d, err := os.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, ".txt") })
	return names[i]
}

func TestOneFileThatTheQueueRefusesHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ledger.refuse = func(ids []run.HandIn) error {
			if slices.ContainsFunc(ids, func(in run.HandIn) bool { return in.ID == "poison" }) {
				return errors.New("refused")
			}
			return nil
		}
		old := time.Now().Add(-time.Hour)
		for i := range 9 {
			b.writeAt(fmt.Sprintf("x%d.txt", i), fmt.Sprintf("run%d", i), old)
		}
		b.writeAt("x4.poison", "poison", old)
		stop := b.start()
		defer stop()
		rest(time.Second)
		if got := b.ledger.ids(); got != "run0 run1 run2 run3 run4 run5 run6 run7 run8" {
			t.Errorf("taken: %s", got)
		}
		rest(time.Hour)
		before := b.ledger.calls
		b.writeAt("late.txt", "late", old)
		rest(11 * time.Second)
		if got := b.ledger.ids(); !strings.Contains(got, "late") {
			t.Errorf("a file that came later waits: %s", got)
		}
		if calls := b.ledger.calls - before; calls > 5 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestAKillBetweenCommitAndMoveCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		fired := 0
		b.ledger.taken = func([]run.HandIn) {
			if fired++; fired == 1 {
				panic("killed here")
			}
		}
		b.writeAt("x.txt", "run1", time.Now().Add(-time.Hour))
		stop := b.start()
		rest(5 * time.Second)
		stop()
		b.holds("x.txt", "run1")
		b.expect("panic in a stage, carried on drop 0")
		b.restart()
		stop = b.start()
		rest(time.Second)
		stop()
		b.holds("accepted/x.txt", "run1")
		b.expect("run already known drop/x.txt 1", "drop file accepted drop/accepted/x.txt 1")
		if fired != 2 {
			t.Errorf("%d commits", fired)
		}
	})
}

func TestStopIsPromptAndLeavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		stop := b.start()
		rest(time.Second)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		b.write("x.txt", "run1")
		b.holds("x.txt", "")
		select {
		case <-b.Scanned():
		default:
			t.Error("the first scan was not told")
		}
	})
}

func TestSettingsChangeWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		stop := b.start()
		defer stop()
		rest(time.Second)
		b.Configure(Config{Dir: "/elsewhere", Settle: 30 * time.Second, Rescan: time.Second})
		b.write("x.txt", "run1")
		rest(29 * time.Second)
		b.holds("x.txt", "")
		rest(2 * time.Second)
		b.holds("accepted/x.txt", "run1")
	})
}
