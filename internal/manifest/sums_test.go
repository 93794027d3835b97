package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func TestSumsAreWhatSha256sumTakesWhateverTheNames(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		testenv.Missing(t, "sha256sum")
	}
	dir := t.TempDir()
	var m Manifest
	for _, name := range []string{"plain.png", "a b.png", "-c.png", "*star.png", "#x.png", `back\slash.png`, "line\nbreak.png", `\n.png`, "Grüße 字.png"} {
		body := []byte("body of " + name)
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		text := hex.EncodeToString(sum[:])
		m.Assets = append(m.Assets, Asset{File: &name, SHA256: &text})
	}
	var sums bytes.Buffer
	if err := m.WriteSums(&sums); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, SumsFile), sums.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "-c", "--strict", SumsFile)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, sums.Bytes())
	}
}

func TestAnOldManifestSpeaksOfItsOwnDirectoryOnly(t *testing.T) {
	size, sum := int64(3), "00ff"
	for file, want := range map[string]int{"images/a.png": 1, "../run2/a.png": 0, "/etc/passwd": 0, "images/../../x": 0, "": 0} {
		m := Manifest{RunID: "run1", Assets: []Asset{{Kind: run.Images, ID: "a", File: &file, Size: &size, SHA256: &sum}}}
		if got := len(m.stored()); got != want {
			t.Errorf("%q: %d stored assets, want %d", file, got, want)
		}
	}
}
