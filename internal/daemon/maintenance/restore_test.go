package maintenance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/run"
)

// The file that was named is at fault, not the queue in use: nothing may be moved aside.
func TestCase_E11_ADamagedCopyIsNotTakenForTheQueue(t *testing.T) {
	dir := t.TempDir()
	c := &config.Config{}
	c.State.Dir, c.Storage.Dir, c.Drop.Dir = filepath.Join(dir, "state"), filepath.Join(dir, "assets"), filepath.Join(dir, "drop")
	for name, data := range map[string]string{"empty": "", "text": "root:x:0:0\n", "zeros": strings.Repeat("\x00", 20_000)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, force := range []bool{false, true} {
			_, err := RestoreQueue(c, file, force)
			if err == nil {
				t.Fatalf("%s was restored", name)
			}
			text := err.Error()
			if !strings.Contains(text, file) || !strings.HasSuffix(text, "name another copy: those of the daemon are in "+boltkv.BackupDir(c.State.Dir)) ||
				strings.Contains(text, "move it aside") {
				t.Errorf("%s, force %v: %v", name, force, err)
			}
		}
	}
}

// queueOf makes a queue in a state directory, and a copy of it.
func queueOf(t *testing.T, state string) (id, file string) {
	t.Helper()
	q, err := queue.Open(state, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Add(t.Context(), []run.HandIn{{ID: "omps2OH829"}}); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "copy.db")
	if _, err := q.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	return q.ID(), file
}

func TestCase_E11_ACopyOfAnotherQueueIsRestoredOnPurposeOnly(t *testing.T) {
	data := t.TempDir()
	c, _, err := config.Load(config.Options{File: os.DevNull, Set: []string{"data_dir=" + data}})
	if err != nil {
		t.Fatal(err)
	}
	foreign, other := queueOf(t, filepath.Join(t.TempDir(), "state"))
	if r, err := RestoreQueue(c, other, false); err != nil || r.Foreign != "" || r.ID != foreign { // onto a new machine
		t.Fatalf("where no queue is: %+v, %v", r, err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	own, copied := queueOf(t, c.State.Dir)
	before := tree(t, data)
	_, err = RestoreQueue(c, other, false)
	if err == nil || !strings.Contains(err.Error(), foreign) || !strings.Contains(err.Error(), own) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another queue's: %v", err)
	}
	if after := tree(t, data); after != before {
		t.Errorf("it was refused, and yet changed\n%s\nto\n%s", before, after)
	}
	if r, err := RestoreQueue(c, copied, false); err != nil || r.ID != own || r.Foreign != "" {
		t.Errorf("its own: %+v, %v", r, err)
	}
	if r, err := RestoreQueue(c, other, true); err != nil || r.ID != foreign || r.Foreign != own {
		t.Errorf("on purpose: %+v, %v", r, err)
	}
}

// tree is every file below a directory with its size and time.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&all, path, info.Size(), info.ModTime(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
