package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/config"
)

// Each testdata/NAME.yaml breaks one rule; NAME.txt is the message it must give.
func TestEveryRuleHasItsMessage(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 70 {
		t.Fatalf("%d bad files found (%v): is the test run in its package?", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, _, err := config.Load(config.Options{File: file, Environ: []string{"HOME=/home/x"}, UID: 1000})
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "plantedsecret") {
				t.Errorf("the message holds the secret: %s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Error(err)
			}
			if got != string(want) {
				t.Errorf("message\n%swant\n%s", got, want)
			}
		})
	}
}
