package main

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/get"
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
		p := newProgress(&out, &out, "/out", handIns("aaaa", "bbbb", "cccc"), 0)
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
		expect("waiting for 3 runs, without --timeout; Ctrl-C stops, and the next call resumes from there\n")
		time.Sleep(30 * time.Second)
		p.pulse(runs)
		expect("")
		time.Sleep(30 * time.Second)
		p.pulse(runs)
		expect("3 runs: 1 downloading, 1 not answered yet, 1 pending, 14 of 20 assets, 1 lost, 1.0 GiB\n")
		p.event(run.Event{Kind: get.RunStatus, Run: "aaaa", Note: "running"})
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
	p := newProgress(&out, &out, "/out", ids, 0)
	out.Reset()
	p.event(run.Event{Kind: get.RunStatus, Run: "runa", Note: "pending"})
	if out.Len() > 0 {
		t.Errorf("printed %q", out.String())
	}
}

// terminal is one end of a new terminal, and reads what it shows up to a text; with
// "" it closes the end and reads the rest.
func terminal(t *testing.T) (end *os.File, shows func(text string) string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}))
	if err != nil {
		t.Fatal(err)
	}
	if end, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return end, func(text string) string {
		if text == "" {
			end.Close()
		}
		var all []byte
		for piece := make([]byte, 4096); text == "" || !bytes.Contains(all, []byte(text)); {
			n, err := master.Read(piece)
			all = append(all, piece[:n]...)
			if err != nil { // the end is closed
				break
			}
		}
		return string(all)
	}
}

func TestATerminalGetsBarsAndTheirLastFrameIsTrue(t *testing.T) {
	end, shows := terminal(t)
	p := newProgress(end, end, "/out", handIns("aaaa", "bbbb", "cccc"), 0)
	film := download.Transfer{Key: run.Key{Run: "aaaa", Kind: run.Videos, ID: "film"}, Bytes: 3 << 20, Total: 12 << 20}
	p.transfers([]download.Transfer{film})
	shows("3.0 MiB / 12.0 MiB")
	p.event(run.Event{Kind: run.RunSettled, Run: "bbbb", State: run.StoredRun, Count: 2, Bytes: 1 << 20})
	shows("1 of 3 runs settled")
	p.event(run.Event{Kind: get.RunStatus, Run: "cccc", Note: "running"})
	p.close()
	text := shows("")
	if !strings.Contains(text, "cccc: running") {
		t.Errorf("the last line is lost: %q", text)
	}
	if !strings.Contains(text, "1 of 3 runs settled") || strings.Contains(text, "of 1 runs") {
		t.Errorf("stopped in the middle it ends with %q", text)
	}
}

func TestGet_SaysWhatItWaitsForAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, &out, "/out", handIns("aaaa", "bbbb", "cccc", "dddd"), time.Hour)
		ends := ", at the latest until " + time.Now().Add(time.Hour).Format(time.TimeOnly) + " (--timeout)"
		if want := "waiting for 4 runs" + ends + "; Ctrl-C stops"; !strings.HasPrefix(out.String(), want) {
			t.Errorf("%q, want %q", out.String(), want)
		}
		expect := func(want string) {
			t.Helper()
			if got := out.String(); got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
			out.Reset()
		}
		out.Reset()
		running := get.Wait{Runs: []run.ID{"aaaa", "bbbb", "cccc", "dddd"}, About: "status", For: "its end: the API says running", Until: "it ends"}
		p.waits([]get.Wait{running})
		expect("waiting for aaaa bbbb cccc and 1 more: its end: the API says running; until it ends" + ends + "\n")
		for range 5 { // the same, and nothing new in it
			time.Sleep(10 * time.Second)
			p.waits([]get.Wait{running})
			expect("")
		}
		missing := get.Wait{Runs: []run.ID{"bbbb"}, About: "missing", For: "the API to know it", Until: "12:00:30"}
		p.waits([]get.Wait{running, missing})
		expect("waiting for bbbb: the API to know it; until 12:00:30" + ends + "\n")
		time.Sleep(10 * time.Second)
		p.waits([]get.Wait{running, missing})
		expect("waiting for aaaa bbbb cccc and 1 more: its end: the API says running; until it ends" + ends + "\n")
		p.waits(nil)
		p.waits([]get.Wait{missing}) // gone meanwhile, so it is new
		expect("waiting for bbbb: the API to know it; until 12:00:30" + ends + "\n")
		var many []get.Wait
		for i := range 100 {
			many = append(many, get.Wait{Runs: []run.ID{"aaaa"}, About: strconv.Itoa(i), For: "x", Until: "y"})
		}
		p.waits(many)
		if n := strings.Count(out.String(), "\n"); n != waitsAtOnce+1 || !strings.HasSuffix(out.String(), "waiting for 95 runs more\n") {
			t.Errorf("%d lines: %q", n, out.String())
		}
	})
}
