package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

const (
	damagedFile = "app/run1/images/a.png"
	damagedText = "rotten"
)

func damagedKey() run.Key { return run.Key{Run: "run1", Kind: run.Images, ID: "a"} }

func (r *rig) aside() (string, error) {
	return r.Aside(context.Background(), damagedKey(), "app/run1", "images/a.png")
}

func TestADamagedFileGoesToQuarantineAndReplacesNothingThere(t *testing.T) {
	r := newRig(t)
	first := quarantineDir + "/" + damagedKey().Hash()
	plantFile(t, filepath.Join(r.dir, first), "no media, put there by a download")
	for n, want := range []string{first + ".damaged", first + ".damaged-2", first + ".damaged-3"} {
		text := fmt.Sprint("rotten ", n)
		plantFile(t, filepath.Join(r.dir, damagedFile), text)
		for range 2 { // the second finds that it is done
			if got, err := r.aside(); err != nil || got != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
		if got := r.content(want); got != text {
			t.Errorf("%s holds %q", want, got)
		}
	}
	if got := r.content(first); !strings.HasPrefix(got, "no media") {
		t.Errorf("%s holds %q", first, got)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, damagedFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the final name is not free: %v", err)
	}
}

func TestWhatIsNoFileOrIsNotThereIsLeftAsItIs(t *testing.T) {
	r := newRig(t)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	plantFile(t, elsewhere, "mine")
	for name, plant := range map[string]func(path string){
		"nothing":      func(string) {},
		"no directory": func(path string) { must(t, os.Remove(filepath.Dir(path))) },
		"a link":       func(path string) { must(t, os.Symlink(elsewhere, path)) },
		"a directory":  func(path string) { must(t, os.Mkdir(path, 0o755)) },
		"a linked directory": func(path string) {
			must(t, os.Remove(filepath.Dir(path)))
			must(t, os.Symlink(filepath.Dir(elsewhere), filepath.Dir(path)))
		},
		"a directory by name": func(path string) { must(t, os.Remove(filepath.Dir(path))); plantFile(t, filepath.Dir(path), "x") },
	} {
		path := filepath.Join(r.dir, damagedFile)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		plant(path)
		before := r.tree()
		if got, err := r.aside(); got != "" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if after := r.tree(); !slices.Equal(before, after) {
			t.Errorf("%s: %q became %q", name, before, after)
		}
		must(t, os.RemoveAll(filepath.Join(r.dir, "app")))
	}
}

func TestNothingIsMovedOnAVolumeThatIsOffline(t *testing.T) {
	r := newRig(t)
	plantFile(t, filepath.Join(r.dir, damagedFile), damagedText)
	must(t, os.Remove(filepath.Join(r.dir, markerFile)))
	if got, err := r.aside(); got != "" || !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("%q, %v", got, err)
	}
	if got := r.content(damagedFile); got != damagedText {
		t.Errorf("%q", got)
	}
}

// asideSteps counts the calls of one Aside.
func asideSteps(t *testing.T) int {
	r := newRig(t)
	plantFile(t, filepath.Join(r.dir, damagedFile), damagedText)
	d := faulty(r)
	if _, err := r.aside(); err != nil {
		t.Fatal(err)
	}
	return d.step
}

// Every call fails once, undone or done all the same, and the process dies at
// every call, with the power: the next Aside ends with the file in quarantine,
// durably, and nothing under its name.
func TestAFaultAtEveryStepOfTheMoveLosesNothing(t *testing.T) {
	steps := asideSteps(t)
	if steps < 10 {
		t.Fatalf("only %d steps", steps)
	}
	for name, is := range map[string]verdict{"fails": fails, "fails but done": applied, "dies": dies} {
		told := 0
		for n := 1; n <= steps; n++ {
			what := fmt.Sprintf("%s, step %d", name, n)
			r := newRig(t)
			plantFile(t, filepath.Join(r.dir, damagedFile), damagedText)
			old := quarantineDir + "/" + damagedKey().Hash() + DamagedExt
			plantFile(t, filepath.Join(r.dir, old), "an older one")
			d := faulty(r)
			d.fault = func(step int, op string) verdict {
				if step == n {
					what += " (" + op + ")"
					return is
				}
				return passes
			}
			_, err := r.aside()
			if err != nil {
				told++
			}
			d.fault = nil
			again, disk := r, d
			if is == dies {
				d.powerLoss(rand.New(rand.NewPCG(uint64(n), 3)))
				again = openRig(t, r.Config, r.q)
				disk = faulty(again)
			}
			got, err := again.aside()
			if err != nil || got == old {
				t.Errorf("%s: then %q, %v", what, got, err)
				continue
			}
			if why := disk.durable(got, []byte(damagedText)); why != "" {
				t.Errorf("%s: %s: %s", what, got, why)
			}
			if why := disk.durable(damagedFile, []byte(damagedText)); why == "" {
				t.Errorf("%s: it would stand under its name after a power loss", what)
			}
			if got := again.content(old); got != "an older one" {
				t.Errorf("%s: the older one is %q", what, got)
			}
		}
		if told < steps/2 {
			t.Errorf("%s: only %d faults of %d were seen", name, told, steps)
		}
	}
}

func TestTheMoveWorksWhereNoRenameRefusesToReplace(t *testing.T) {
	r := newRig(t)
	plantFile(t, filepath.Join(r.dir, damagedFile), damagedText)
	plantFile(t, filepath.Join(r.dir, quarantineDir, damagedKey().Hash()+DamagedExt), "an older one")
	refused := 0
	r.sys.place = func(*os.File, string, *os.File, string) error { refused++; return unix.EINVAL }
	got, err := r.aside()
	if err != nil || refused == 0 || r.content(got) != damagedText || !strings.HasSuffix(got, "-2") {
		t.Errorf("%q, %v, refused %d times", got, err, refused)
	}
}

// A process of its own moves file after file and is killed at any moment.
func TestSIGKILLBetweenTheStepsOfTheMoveLosesNoFile(t *testing.T) {
	const child, files = "ASSETD_STORAGE_ASIDE", 400
	name := func(i int) (run.Key, string) {
		id := fmt.Sprintf("a%03d", i)
		return run.Key{Run: "run1", Kind: run.Images, ID: id}, "images/" + id + ".png"
	}
	if dir := os.Getenv(child); dir != "" {
		q := newLedger("queue-1")
		q.used[dir] = true
		r := openRig(t, plainConfig(dir), q)
		for i := range files {
			key, file := name(i)
			if _, err := r.Aside(t.Context(), key, "app/run1", file); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(os.Stderr, "moved %d\n", i)
		}
		fmt.Fprintln(os.Stderr, "all moved")
		select {}
	}
	r := newRig(t)
	for i := range files {
		_, file := name(i)
		plantFile(t, filepath.Join(r.dir, "app/run1", file), fmt.Sprint("rotten ", i))
	}
	deaths := 0
	for n := 0; n < 12; n++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), child+"="+r.dir)
		out, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		killAfter(t, cmd, out, 3+n*n*2)
		deaths++
		if n := len(r.tree()); n != files {
			t.Fatalf("%d files, %d are right: %q", n, files, r.tree())
		}
	}
	for i := range files {
		key, file := name(i)
		got, err := r.Aside(t.Context(), key, "app/run1", file)
		if err != nil || r.content(got) != fmt.Sprint("rotten ", i) || strings.Contains(got, "-2") {
			t.Fatalf("%s: %q, %v", key, got, err)
		}
	}
	if deaths < 12 {
		t.Errorf("only %d deaths", deaths)
	}
}

func TestClearTakesAllOfAnAssetButWhatIsInUse(t *testing.T) {
	r := newRig(t)
	gone, busy, other := damagedKey(), r.asset("run1", run.Videos, "busy"), r.asset("run2", run.Videos, "other")
	p, err := r.write(busy, strong, []byte("busy"))
	must(t, err)
	for _, key := range []run.Key{gone, other} {
		plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+partExt), "x")
		for _, ext := range []string{"", ".damaged", ".damaged-3"} {
			plantFile(t, filepath.Join(r.dir, quarantineDir, key.Hash()+ext), "x")
		}
	}
	hashes := []string{gone.Hash(), busy.Hash()}
	left, err := r.Clear(t.Context(), hashes)
	if err != nil || !slices.Equal(left, hashes[1:]) {
		t.Errorf("%v, %v", left, err)
	}
	if tree := strings.Join(r.tree(), " "); strings.Contains(tree, gone.Hash()) || strings.Count(tree, other.Hash()) != 4 || !strings.Contains(tree, busy.Hash()) {
		t.Errorf("left: %s", tree)
	}
	must(t, p.Close())
	if left, err := r.Clear(t.Context(), hashes); err != nil || len(left) != 0 || strings.Contains(strings.Join(r.tree(), " "), busy.Hash()) {
		t.Errorf("then: %v, %v, %q", left, err, r.tree())
	}
	must(t, os.Remove(filepath.Join(r.dir, markerFile)))
	if left, err := r.Clear(t.Context(), hashes); !errors.Is(err, run.ErrVolumeOffline) || len(left) != 2 {
		t.Errorf("offline: %v, %v", left, err)
	}
}
