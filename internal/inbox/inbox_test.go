package inbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestFilesGoToAcceptedOrRejectedWithAllTheirGoodIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt("omps2OH829", "", old)
		b.writeAt("later.json", "", time.Now())
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
		if b.ledger.adds() != 1 {
			t.Errorf("%d commits for one batch of files", b.ledger.adds())
		}
	})
}

// A hostile or mistaken file costs a few megabytes at most, and is explained.
func TestAHugeFileIsReadUpToTheLimitAndRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.write("huge.bin", "run1\nrun2\n")
		path := filepath.Join(b.dir, "huge.bin")
		if err := errors.Join(os.Truncate(path, 1<<30), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds("rejected/huge.bin rejected/huge.bin.error", "run1 run2")
		if report := b.read("rejected/huge.bin.error"); !strings.Contains(report, "line 3: the file has more than 4194304 bytes") {
			t.Errorf("report: %s", report)
		}
	})
}

// A file saved by its URL has the token in its name.
func TestNoEventTellsATokenInAFilesName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		name := "render.png?token=exp=1~hmac=" + secret
		b.writeAt(name, "not an ID", time.Now().Add(-time.Hour))
		if err := os.Mkdir(filepath.Join(b.dir, "dir?token="+secret), 0o755); err != nil {
			t.Fatal(err)
		}
		b.ledger.fail(nil)
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds("rejected/"+name+" rejected/"+name+".error", "")
		told := b.told
		if len(told) != 2 {
			t.Errorf("told %v", told)
		}
		if text := fmt.Sprint(told) + b.read("rejected/"+name+".error"); strings.Contains(text, secret) {
			t.Errorf("the token is told: %s", text)
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

// An empty file that says nothing may be written for a minute. It ends in rejected/, so
// that whoever put it there sees why nothing came of it.
func TestCase_C4_AnEmptyFileThatSaysNothingIsRejectedAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		want := map[string]string{
			"abc": "has 3 characters", "two words": "write run IDs into it", "x.json": "one a line", "omps2OH829.txt": `touch "omps2OH829"`, "x.csv": "one a line",
		}
		for name := range want {
			b.write(name, "")
		}
		b.write("later.json", "")
		stop := b.start()
		defer stop()
		rest(50 * time.Second)
		b.write("later.json", `"run1"`) // in time
		rest(11 * time.Second)
		b.holds("abc accepted/later.json omps2OH829.txt two words x.csv x.json", "run1")
		b.expect("drop file accepted drop/accepted/later.json 1")
		rest(2 * time.Second)
		for name, text := range want {
			if report := b.read("rejected/" + name + errorExt); !strings.Contains(report, text) || !strings.Contains(report, "0 IDs were taken") {
				t.Errorf("%s: %s", name, report)
			}
		}
		if told := b.events(); len(told) != len(want) || b.tree() != "accepted/later.json rejected/abc rejected/abc.error rejected/omps2OH829.txt "+
			"rejected/omps2OH829.txt.error rejected/two words rejected/two words.error rejected/x.csv rejected/x.csv.error rejected/x.json rejected/x.json.error" {
			t.Errorf("told %q, directory holds %s", told, b.tree())
		}
		b.write("rejected/x.csv", "run2\n") // by a writer that has it open still
		rest(15 * time.Second)
		if !strings.Contains(b.tree(), "accepted/x.csv") || b.ledger.ids() != "run1 run2" {
			t.Errorf("directory holds %s, queue %s", b.tree(), b.ledger.ids())
		}
	})
}

func TestCase_C1_AFileThatBreaksOffIsTakenOnceItIsThirtySecondsOld(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		age, want  time.Duration
		ids        string
	}{
		"text":             {"x.txt", "run1\nrun2", 0, 30 * time.Second, "run1 run2"},
		"no extension":     {"list", "run1", 0, 30 * time.Second, "run1"},
		"half old":         {"x.txt", "run1", 20 * time.Second, 10 * time.Second, "run1"},
		"old":              {"x.txt", "run1", time.Hour, secondLook, "run1"},
		"of the future":    {"x.txt", "run1", -time.Hour, 30 * time.Second, "run1"},
		"lines of JSON":    {"x.jsonl", "\"run1\"\n\"run2\"", 0, 30 * time.Second, "run1 run2"},
		"half JSON":        {"x.json", `["run1","ru`, 0, 30 * time.Second, "run1"},
		"whole text":       {"x.txt", "run1\n", 0, 2 * time.Second, "run1"},
		"whole JSON":       {"x.json", `["run1"]`, 0, 2 * time.Second, "run1"},
		"by name":          {"run1", "", 0, 2 * time.Second, "run1"},
		"wrong, but whole": {"x.txt", "run1\n!\n", 0, 2 * time.Second, "run1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				start := time.Now()
				var at time.Duration
				b.ledger.taken = func([]run.HandIn) { at = time.Since(start) }
				b.cut(c.file, c.text, start.Add(-c.age))
				stop := b.start()
				rest(time.Minute)
				stop()
				if at != c.want || b.ledger.ids() != c.ids {
					t.Errorf("taken after %v, want %v: %s", at, c.want, b.ledger.ids())
				}
			})
		})
	}
}

func TestCase_C3_FilesOfFileManagersAreLeftAloneAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		names := []string{"Thumbs.db", "desktop.ini", "~$x.xlsx", ".DS_Store", "._x.txt", "Icon\r"}
		for _, name := range names {
			b.write(name, "run1\n")
		}
		b.write("empty.ini", "run2\n")
		stop := b.start()
		defer stop()
		rest(time.Minute)
		for _, name := range names { // Explorer writes them again
			b.write(name, "run1\nrun1\n")
		}
		rest(time.Hour)
		b.holds(".DS_Store ._x.txt Icon\r Thumbs.db accepted/empty.ini desktop.ini ~$x.xlsx", "run2")
		if told := b.events(); len(told) != len(names)+1 {
			t.Errorf("told %q", told)
		}
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
		before := b.ledger.adds()
		b.writeAt("late.txt", "late", old)
		rest(11 * time.Second)
		if got := b.ledger.ids(); !strings.Contains(got, "late") {
			t.Errorf("a file that came later waits: %s", got)
		}
		if calls := b.ledger.adds() - before; calls > 5 {
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

func TestRejectedFilesThatLieAroundAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt("bad.txt", "run 1\n", old)
		b.writeAt("worse.txt", "run 2\n", old)
		b.writeAt("good.txt", "run3\n", old)
		stop := b.start()
		defer stop()
		rest(time.Minute)
		if n := b.Rejected(); n != 2 {
			t.Errorf("%d, there are 2", n)
		}
		if err := os.Remove(b.dir + "/rejected/bad.txt"); err != nil {
			t.Fatal(err)
		}
		rest(10 * time.Minute)
		if n := b.Rejected(); n != 1 {
			t.Errorf("%d, one is left", n)
		}
	})
}
