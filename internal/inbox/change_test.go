package inbox

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func TestAnAcceptedFileThatGrowsIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.write("x.txt", "run1\n")
		stop := b.start()
		rest(3 * time.Second)
		b.expect("drop file accepted drop/accepted/x.txt 1")
		rest(9 * time.Minute)
		if b.ledger.adds() != 1 {
			t.Errorf("an unchanged file was read %d times", b.ledger.adds())
		}
		b.write("accepted/x.txt", "run1\nrun2\n")
		rest(13 * time.Second)
		b.holds("accepted/x.txt", "run1 run2")
		b.expect("run already known drop/accepted/x.txt 1", "drop file accepted drop/accepted/x.txt 2")
		rest(time.Hour)
		b.expect()
		b.write("accepted/x.txt", "run1\nrun2\nrun3\n") // long forgotten
		rest(13 * time.Second)
		b.expect("run already known drop/accepted/x.txt 2", "drop file accepted drop/accepted/x.txt 3")
		rest(time.Hour)
		stop()
		if n := len(b.accepted.looks); n != 0 {
			t.Errorf("%d old files remembered", n)
		}
	})
}

func TestAnAcceptedFileThatIsSpoiledGoesToRejectedAndBackWhenMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.write("x.txt", "run1\n")
		stop := b.start()
		defer stop()
		rest(3 * time.Second)
		b.write("accepted/x.txt", "run1\nrun2\n!!\n")
		rest(15 * time.Second)
		b.holds("rejected/x.txt rejected/x.txt.error", "run1 run2")
		b.expect("drop file accepted drop/accepted/x.txt 1", "run already known drop/accepted/x.txt 1", "drop file rejected drop/rejected/x.txt 2")

		b.write("rejected/x.txt", "run1\nrun2\n!?\nrun3\n") // another fault
		rest(15 * time.Second)
		b.holds("rejected/x.txt rejected/x.txt.error", "run1 run2 run3")
		if report := b.read("rejected/x.txt.error"); !strings.Contains(report, "!?") || strings.Contains(report, "!!") {
			t.Errorf("the report is not of the file as it is: %s", report)
		}
		b.expect("run already known drop/rejected/x.txt 2", "drop file rejected drop/rejected/x.txt 3")

		b.write("rejected/x.txt", "run1\nrun2\nrun3\nrun4\n")
		rest(15 * time.Second)
		b.holds("accepted/x.txt", "run1 run2 run3 run4")
		b.expect("run already known drop/rejected/x.txt 3", "drop file accepted drop/accepted/x.txt 4")
	})
}

// A writer that pauses for longer than half a JSON text is waited for: that is
// rejected, the whole accepted.
func TestASlowWriterOfJSONIsAcceptedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.write("x.json", `["run1",`)
		stop := b.start()
		defer stop()
		rest(31 * time.Second)
		b.holds("rejected/x.json rejected/x.json.error", "run1")
		b.write("rejected/x.json", `["run1","run2"]`)
		rest(15 * time.Second)
		b.holds("accepted/x.json", "run1 run2")
	})
}

func TestAfterARestartYoungFilesAreReadAgainInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.writeAt("accepted/young.txt", "run1\n", time.Now().Add(-9*time.Minute))
		b.writeAt("accepted/old.txt", "run2\n", time.Now().Add(-11*time.Minute))
		b.writeAt("rejected/bad.txt", "run3\n!\n", time.Now().Add(-9*time.Minute))
		b.writeAt("rejected/bad.txt.error", "an older version wrote this", time.Now())
		b.ledger.known[run.ID("run3")] = nil
		stop := b.start()
		rest(5 * time.Minute)
		stop()
		b.holds("accepted/old.txt accepted/young.txt rejected/bad.txt rejected/bad.txt.error", "run1 run3")
		b.expect()
		if report := b.read("rejected/bad.txt.error"); !strings.Contains(report, "line 2") {
			t.Errorf("report: %s", report)
		}
		if b.ledger.adds() != 2 {
			t.Errorf("%d calls, want one for each folder", b.ledger.adds())
		}
	})
}

func TestOnlyWhatIsReadOnceMoreIsSaidToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.writeAt("accepted/young.txt", "run1\n", time.Now().Add(-9*time.Minute))
		b.writeAt("rejected/bad.txt", "run2\n!\n", time.Now().Add(-9*time.Minute))
		b.write("new.txt", "run3\n")
		again := map[run.ID]bool{}
		b.ledger.taken = func(ids []run.HandIn) {
			for _, in := range ids {
				again[in.ID] = in.Again
			}
		}
		stop := b.start()
		rest(time.Minute)
		stop()
		want := map[run.ID]bool{"run1": true, "run2": true, "run3": false}
		if !maps.Equal(again, want) {
			t.Errorf("%v, want %v", again, want)
		}
	})
}

// What is exchanged in the moment of its move must not count as read.
func TestAFileThatChangesDuringItsMoveIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.ledger.taken = func([]run.HandIn) {
			b.ledger.taken = nil
			b.writeAt("x.txt", "run1\nrun2\n", old)
		}
		b.writeAt("x.txt", "run1\n", old)
		stop := b.start()
		defer stop()
		rest(5 * time.Second)
		b.holds("accepted/x.txt", "run1 run2")
	})
}

func TestAFileRemovedByHandAfterItsCommitIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ledger.taken = func([]run.HandIn) {
			if err := os.Remove(filepath.Join(b.dir, "x.txt")); err != nil {
				t.Error(err)
			}
		}
		b.writeAt("x.txt", "run1", time.Now().Add(-time.Hour))
		stop := b.start()
		defer stop()
		rest(time.Minute)
		b.holds("", "run1")
		b.expect()
	})
}

// In accepted/ a name may be another than the one handed in: what was, the queue
// has already.
func TestNoEmptyFileIsTakenByTheNameItHasAfterItsMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Minute)
		for range 3 { // handed in three times
			b.writeAt("omps2OH829", "", old)
			stop := b.start()
			rest(time.Second)
			stop()
			b.restart()
		}
		b.writeAt("rejected/emptied", "", old)
		b.writeAt("accepted/marked", "\xef\xbb\xbf", old)
		b.events()
		stop := b.start()
		defer stop()
		rest(5 * time.Minute)
		tree := "accepted/marked accepted/omps2OH829 accepted/omps2OH829-2 accepted/omps2OH829-3 rejected/emptied"
		b.holds(tree, "omps2OH829")
		b.write("accepted/omps2OH829-2", "run1") // written late: that counts
		rest(15 * time.Second)
		b.holds(tree, "omps2OH829 run1")
		rest(time.Hour)
		b.expect("drop file accepted drop/accepted/omps2OH829-2 1")
		if n := len(b.accepted.looks) + len(b.rejected.looks); n != 0 {
			t.Errorf("%d old files remembered", n)
		}
	})
}

// rsync and cp -p give two files one mtime; another that takes the name just before
// the move is not lost.
func TestAFileThatIsReplacedByOneOfItsSizeAndMtimeIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt(".other.tmp", "run2\n", old)
		b.ledger.taken = func([]run.HandIn) {
			b.ledger.taken = nil
			if err := os.Rename(filepath.Join(b.dir, ".other.tmp"), filepath.Join(b.dir, "x.txt")); err != nil {
				t.Error(err)
			}
		}
		b.writeAt("x.txt", "run1\n", old)
		stop := b.start()
		defer stop()
		rest(5 * time.Second)
		b.holds("accepted/x.txt", "run1 run2")
		b.expect("drop file accepted drop/accepted/x.txt 1")
		if b.ledger.adds() != 2 {
			t.Errorf("read %d times", b.ledger.adds())
		}
	})
}
