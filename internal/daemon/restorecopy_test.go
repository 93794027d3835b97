package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
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
			if !strings.Contains(text, file) || !strings.HasSuffix(text, "name another copy: those of the daemon are in "+queue.BackupDir(c.State.Dir)) ||
				strings.Contains(text, "move it aside") {
				t.Errorf("%s, force %v: %v", name, force, err)
			}
		}
	}
}
