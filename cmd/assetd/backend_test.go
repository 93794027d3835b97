package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/daemon/verify"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// spoil changes a byte of stored files, keeping their size, and says how many.
func (r *rig) spoil(dice *rand.Rand, share float64) (n int) {
	r.t.Helper()
	r.walk(func(path string, data []byte) {
		if filepath.Ext(path) != ".png" || dice.Float64() >= share {
			return
		}
		data[dice.IntN(len(data))] ^= 0xff
		if err := os.WriteFile(path, data, 0o640); err != nil {
			r.t.Error(err)
		}
		n++
	})
	return n
}

// quarantined counts the damaged files in quarantine.
func (r *rig) quarantined() int {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, "assets", ".assetd", "quarantine", "*.damaged*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(found)
}

// verified is what verify says of each file, and its exit code.
func (r *rig) verified(args ...string) (found map[verify.Result]int, code int) {
	r.t.Helper()
	out, stderr, code := r.output(append([]string{"verify", "--json"}, args...)...)
	found = map[verify.Result]int{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		var v verify.File
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			r.t.Fatalf("%q: %v\n%s", lines.Text(), err, stderr)
		}
		if v.Kind != "" || v.Result != verify.OK {
			found[v.Result]++
		}
	}
	return found, code
}

// imageRuns adds runs with images to the simulator.
func (r *rig) imageRuns(runs, images int) (ids []run.ID) {
	r.t.Helper()
	for i := range runs {
		id := run.ID(fmt.Sprintf("care%06d", i))
		opts := []simulator.RunOption{simulator.App("app1")}
		for j := range images {
			opts = append(opts, simulator.Image(fmt.Sprintf("img%d", j), 3000))
		}
		if err := r.sim.AddRun(id, opts...); err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// The daemon is killed while it puts damaged files aside: every one of them ends in
// quarantine, once, and what it was is whole again under its name.
func TestKilledWhilePuttingDamagedFilesAsideNothingIsLost(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	r := newRig(t, []string{"log.level=info"})
	ids := r.imageRuns(40, 5)
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(len(ids), time.Minute)
	dice := rand.New(rand.NewPCG(1, 2))
	damaged, cut := 0, 0
	for loop := range 6 {
		n := r.spoil(dice, 0.5)
		damaged += n
		if found, code := r.verified(); code != exitLost || found[verify.Damaged] != n || found[verify.Missing] != 0 {
			t.Fatalf("loop %d: exit %d, %v, want %d damaged", loop, code, found, n)
		}
		retry := r.command("retry", "--all")
		if err := retry.Start(); err != nil {
			t.Fatal(err)
		}
		before := r.quarantined()
		for i := 0; r.quarantined() <= before+dice.IntN(n) && i < 1000; i++ { // it has begun
			pause(t, time.Millisecond)
		}
		p.kill()
		if retry.Wait() != nil {
			cut++
		}
		p = r.start().ready()
		if out, stderr, code := r.output("retry", "--all"); code != 0 {
			t.Fatalf("loop %d: exit %d\n%s\n%s", loop, code, out, stderr)
		}
		r.waitSettled(len(ids), time.Minute)
		if found, code := r.verified(); code != 0 || found[verify.OK] != 200 {
			t.Fatalf("loop %d: then exit %d, %v", loop, code, found)
		}
		if n := r.quarantined(); n != damaged {
			t.Fatalf("loop %d: %d files in quarantine, %d were damaged", loop, n, damaged)
		}
	}
	if cut == 0 {
		t.Error("no retry was ever cut short: the test proves nothing")
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.judgeEnd(ids)
}

func TestVerifyStopsAtCtrlCAndSaysWhatItFound(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	r := newRig(t, []string{"log.level=info"})
	err := r.sim.AddRun("large00001", simulator.App("app1"), simulator.Video("v", 300<<20))
	if err != nil {
		t.Fatal(err)
	}
	ids := append(r.imageRuns(3, 1), "large00001")
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(len(ids), time.Minute)
	if n := r.spoil(rand.New(rand.NewPCG(1, 2)), 1); n != 3 {
		t.Fatalf("%d files spoiled", n)
	}
	cmd := r.command("verify", "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, bad := bufio.NewScanner(out), 0
	for lines.Scan() { // the images come first
		if strings.Contains(lines.Text(), `"result":"damaged"`) {
			if bad++; bad == 3 {
				cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // it may have ended
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted || !strings.Contains(stderr.String(), "what was found until then is marked") {
		t.Errorf("%v, %s", err, &stderr)
	}
	for series, want := range map[string]float64{"assetd_damaged_files": 3, "assetd_damaged_runs": 3} { // case E7
		if got, there := r.metric(series); !there || got != want {
			t.Errorf("%s is %v (there: %v), want %v", series, got, there, want)
		}
	}
	if out, _, code := r.output("retry", "--all"); code != 0 || strings.Count(out, "1 damaged or missing file") != 3 {
		t.Errorf("exit %d: %s", code, out)
	}
	r.waitSettled(len(ids), time.Minute)
	if _, code := r.verified(); code != 0 {
		t.Errorf("then exit %d", code)
	}
	p.stop()
}

func TestVerifyAsAnotherUserSaysWhatItCouldNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to become another user")
	}
	t.Parallel()
	r := newRig(t, []string{"log.level=info", "storage.dir_mode=0755", "storage.file_mode=0644"})
	ids := r.imageRuns(2, 3)
	if err := os.Chmod(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(len(ids), time.Minute)
	hidden := ""
	r.walk(func(path string, _ []byte) {
		if filepath.Ext(path) == ".png" && hidden == "" {
			hidden = path
		}
	})
	for path, mode := range map[string]fs.FileMode{hidden: 0o600, filepath.Join(r.dir, "state"): 0o755, filepath.Join(r.dir, "state", "assetd.sock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := r.command("verify", "--json")
	binary, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(r.dir, "assetd") // where that user reaches it
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != exitError || strings.Count(out.String(), `"result":"unreadable"`) != 1 || strings.Count(out.String(), `"result":"ok"`) != 7 {
		t.Errorf("exit %d\n%s\n%s", code, &out, &stderr)
	}
	if _, code := r.verified(); code != 0 {
		t.Errorf("as the daemon's user: exit %d", code)
	}
	p.stop()
}
