package storage

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// F01: a process of its own writes a part at many places and is killed at any
// moment. What counts after is what was written, and not much of it is missing.
func TestSIGKILLLeavesWhatWasWritten(t *testing.T) {
	testenv.Long(t)
	const child, size, chunk, lanes = "ASSETD_STORAGE_KILLED", 48 << 20, 64 << 10, 4
	data := body(size, "v")
	key := run.Key{Run: "run1", Kind: run.Videos, ID: "v"}
	if dir := os.Getenv(child); dir != "" {
		q := newLedger("queue-1")
		q.used[dir] = true
		r := openRig(t, plainConfig(dir), q)
		p, err := r.Part(key)
		must(t, err)
		if n, _ := p.Have(); n == 0 {
			must(t, p.Reset(run.PartMark{ETag: `"v1"`, Total: size}))
			at(t, p, data, 0, chunk)
		}
		ended := make(chan struct{}, lanes)
		line := make(chan string, 1)
		go func() {
			for s := range line {
				fmt.Fprint(os.Stderr, s)
			}
		}()
		for lane := range int64(lanes) {
			go func() {
				defer func() { ended <- struct{}{} }()
				for off := lane * size / lanes; off < (lane+1)*size/lanes; off += chunk {
					p.mu.Lock()
					free := p.vacant(off, chunk)
					p.mu.Unlock()
					if !free {
						continue
					}
					if _, err := p.WriteAt(data[off:off+chunk], off); err != nil {
						return // the bytes that a kill left written in part
					}
					line <- fmt.Sprintf("wrote %d\n", off)
				}
			}()
		}
		for range lanes {
			<-ended
		}
		fmt.Fprintln(os.Stderr, "all written")
		select {}
	}
	r := newRig(t)
	deaths, whole := 0, false
	for n := 0; n < 12 && !whole; n++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), child+"="+r.dir)
		out, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		wrote := killAfter(t, cmd, out, 20+n*n*7)
		deaths++
		later := openRig(t, r.Config, r.q)
		later.boot = r.boot
		p, err := later.Part(key)
		must(t, err)
		if got := partBytes(t, p); !bytes.HasPrefix(data, got) {
			t.Fatal("other bytes at the front")
		}
		for _, s := range p.Beyond() {
			got := make([]byte, s.Len())
			if _, err := p.f.ReadAt(got, s.From); err != nil || !bytes.Equal(got, data[s.From:s.To]) {
				t.Fatalf("other bytes at %v: %v", s, err)
			}
		}
		lost := int64(0)
		for _, off := range wrote {
			if p.vacant(off, chunk) {
				lost += chunk
			}
		}
		if lost > mapBytes+lanes*chunk {
			t.Errorf("%d bytes that were written are lost", lost)
		}
		whole = p.size == size
		must(t, p.Close())
	}
	if deaths < 3 {
		t.Errorf("only %d deaths", deaths)
	}
}

// killAfter kills the process after so many lines, and gives the numbers on them all.
func killAfter(t *testing.T, cmd *exec.Cmd, out io.Reader, lines int) (numbers []int64) {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	buf, text, killed := make([]byte, 4096), "", false
	for {
		n, err := out.Read(buf)
		text += string(buf[:n])
		if !killed && (strings.Count(text, "\n") >= lines || strings.Contains(text, "all written")) {
			must(t, cmd.Process.Kill())
			killed = true
		}
		if err != nil {
			break
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if !killed {
		t.Fatalf("it ended by itself: %s", text)
	}
	for _, l := range strings.Split(text, "\n") {
		if s, ok := strings.CutPrefix(l, "wrote "); ok {
			if off, err := strconv.ParseInt(s, 10, 64); err == nil {
				numbers = append(numbers, off)
			}
		}
	}
	return numbers
}
