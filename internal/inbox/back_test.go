package inbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// taken is a bench whose inbox has taken these files.
func taken(t *testing.T, files map[string]string) *bench {
	t.Helper()
	b := newBench(t)
	old := time.Now().Add(-time.Hour)
	for name, text := range files {
		b.writeAt(name, text, old)
	}
	stop := b.start()
	rest(time.Second)
	stop()
	b.events()
	return b
}

func TestWhatWasTakenIsPutBackAndTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := taken(t, map[string]string{
			"omps2OH829": "", "list.txt": "run1\nrun2\n", "bad.txt": "run3\nnot an ID\n", "new.json": `"run4"`,
		})
		b.holds("accepted/list.txt accepted/new.json accepted/omps2OH829 rejected/bad.txt rejected/bad.txt.error", "omps2OH829 run1 run2 run3 run4")
		b.write("list.txt", "run5") // its name is taken
		back, err := Back(b.dir, time.Time{})
		if err != nil || back.Files != 4 || len(back.Left) > 0 {
			t.Errorf("%+v, %v", back, err)
		}
		if got := b.tree(); got != "bad.txt list-2.txt list.txt new.json omps2OH829" {
			t.Errorf("%q", got)
		}
		b.ledger.known = map[run.ID]map[string]string{} // a queue that has forgotten all of it
		b.restart()
		stop := b.start()
		rest(time.Minute)
		stop()
		b.holds("accepted/list-2.txt accepted/list.txt accepted/new.json accepted/omps2OH829 rejected/bad.txt rejected/bad.txt.error",
			"omps2OH829 run1 run2 run3 run4 run5")
	})
}

func TestOnlyWhatWasTakenSinceThenIsPutBack(t *testing.T) {
	b := newBench(t)
	long := time.Now().Add(-30 * 24 * time.Hour)
	b.writeAt("accepted/moved.txt", "run1", long) // written long ago, moved just now: only the ctime knows
	if back, err := Back(b.dir, time.Now().Add(2*time.Hour)); err != nil || back.Files != 0 {
		t.Errorf("%+v, %v", back, err)
	}
	if back, err := Back(b.dir, time.Now().Add(30*time.Minute)); err != nil || back.Files != 1 { // clocks differ
		t.Errorf("%+v, %v", back, err)
	}
	b.holds("moved.txt", "")
}

// The name of an empty file is its run ID: put back under another one it would be
// another run.
func TestAnEmptyFileIsPutBackUnderTheNameItWasHandedInWithOrNotAtAll(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"abcd", "abcd-2", "efgh-2", "ijkl-1", "mnop", "qrst"} {
		b.write("accepted/"+name, "")
	}
	b.write("mnop", "")     // handed in once more
	b.write("qrst", "run9") // another file of that name
	back, err := Back(b.dir, time.Time{})
	if err != nil || back.Files != 3 {
		t.Errorf("%+v, %v", back, err)
	}
	if want := b.dir + "/accepted/abcd-2 " + b.dir + "/accepted/qrst"; strings.Join(back.Left, " ") != want {
		t.Errorf("left %q", back.Left)
	}
	b.holds("abcd accepted/abcd-2 accepted/mnop accepted/qrst efgh-2 ijkl-1 mnop qrst", "")
}

func TestNothingButRegularFilesIsPutBackAndNoSymlinkFollowed(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "theirs"), []byte("run1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "theirs"), filepath.Join(b.dir, "accepted", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.dir, "accepted", "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if back, err := Back(b.dir, time.Time{}); err != nil || back.Files != 0 {
		t.Errorf("%+v, %v", back, err)
	}
	rejected := filepath.Join(b.dir, "rejected")
	if err := os.Remove(rejected); err != nil {
		t.Fatal(err)
	}
	if back, err := Back(b.dir, time.Time{}); err != nil || back.Files != 0 { // not there: nothing to do
		t.Errorf("%+v, %v", back, err)
	}
	if err := os.Symlink(outside, rejected); err != nil {
		t.Fatal(err)
	}
	if _, err := Back(b.dir, time.Time{}); err == nil {
		t.Error("a symlink was followed")
	}
	if _, err := Back(filepath.Join(b.dir, "gone"), time.Time{}); err == nil {
		t.Error("put back into nothing")
	}
}
