package inbox

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// What the queue refuses for good goes to rejected/ with its reason, and the others of
// the file, and other files, are taken.
func TestCase_A14_AFileThatTheQueueRefusesForGoodIsRejectedAndBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		old := time.Now().Add(-time.Hour)
		b.writeAt("a.txt", "run1\nbad1\nrun2\n", old)
		b.writeAt("b.txt", "run3\n", old)
		b.writeAt("c.txt", "late1\n", old)
		b.ledger.judge = func(in run.HandIn) *run.Refused {
			switch in.ID {
			case "bad1":
				return &run.Refused{Reason: "never", NotTaken: true}
			case "late1":
				return &run.Refused{Reason: "65 labels"}
			}
			return nil
		}
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds("accepted/b.txt rejected/a.txt rejected/a.txt.error rejected/c.txt rejected/c.txt.error", "late1 run1 run2 run3")
		if report := b.read("rejected/a.txt.error"); !strings.Contains(report, `"bad1": never`) || !strings.Contains(report, "2 IDs were taken, 1 fault was found") {
			t.Error(report)
		}
		if report := b.read("rejected/c.txt.error"); !strings.Contains(report, `"late1": 65 labels: the run was taken without these labels`) {
			t.Error(report)
		}
	})
}

func TestCase_A14_AFullDiskKeepsTheFileUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.writeAt("a.txt", "run1\n", time.Now().Add(-time.Hour))
		b.ledger.fail(errors.New("no room for the queue"))
		stop := b.start()
		defer stop()
		rest(10 * time.Minute)
		b.holds("a.txt", "")
		b.ledger.fail(nil)
		rest(2 * time.Minute)
		b.holds("accepted/a.txt", "run1")
	})
}

func TestCase_A14_AFileWithTooManyLabelsOnOneLineIsTakenWithoutThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var labels []string
		for _, name := range strings.Split("abcdefghijklmnopq", "") {
			labels = append(labels, `"`+name+`":"`+strings.Repeat("v", 1024)+`"`)
		}
		b.writeAt("x.jsonl", `{"run_id":"run1","labels":{`+strings.Join(labels, ",")+"}}\n\"run2\"\n", time.Now().Add(-time.Hour))
		stop := b.start()
		rest(time.Second)
		stop()
		b.holds("rejected/x.jsonl rejected/x.jsonl.error", "run1 run2")
		if report := b.read("rejected/x.jsonl.error"); !strings.Contains(report, "line 1: the labels come to 17425 bytes") {
			t.Error(report)
		}
	})
}
