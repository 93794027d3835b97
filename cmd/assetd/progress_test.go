package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/daemon"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
)

func handIns(ids ...run.ID) (found []run.HandIn) {
	for _, id := range ids {
		found = append(found, run.HandIn{ID: id})
	}
	return found
}

func TestAPipeGetsALineAMinuteOnlyWhereNothingElseIsPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, &out, "/out", handIns("aaaa", "bbbb", "cccc"))
		p.transfers([]download.Transfer{{Key: run.Key{Run: "cccc"}, Bytes: 1 << 20}})
		runs := []run.Run{
			{ID: "aaaa", State: run.Waiting, Status: run.Pending},
			{ID: "bbbb", State: run.Waiting},
			{ID: "cccc", State: run.Downloading, Status: run.Completed, EndedAt: time.Now(), Assets: 20, Stored: 14, Lost: 1, Bytes: 1 << 30},
		}
		expect := func(want string) {
			t.Helper()
			if got := out.String(); got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
			out.Reset()
		}
		expect("waiting for 3 runs; Ctrl-C stops, and the next call goes on from there\n")
		time.Sleep(30 * time.Second)
		p.pulse(runs)
		expect("")
		time.Sleep(30 * time.Second)
		p.pulse(runs)
		expect("3 runs: 1 downloading, 1 not answered yet, 1 pending, 14 of 20 assets, 1 lost, 1.0 GiB\n")
		p.tell(run.Event{Kind: daemon.RunStands, Run: "aaaa", Note: "running"})
		expect("aaaa: running\n")
		time.Sleep(time.Minute)
		p.transfers(nil)
		p.pulse(runs[:1])
		expect("1 run: 1 pending\n")
	})
}

func TestManyRunsAreNotToldOneByOne(t *testing.T) {
	var out bytes.Buffer
	ids := make([]run.HandIn, namedRuns+1)
	for i := range ids {
		ids[i].ID = run.ID("run" + string(rune('a'+i)))
	}
	p := newProgress(&out, &out, "/out", ids)
	out.Reset()
	p.tell(run.Event{Kind: daemon.RunStands, Run: "runa", Note: "pending"})
	if out.Len() > 0 {
		t.Errorf("printed %q", out.String())
	}
}
