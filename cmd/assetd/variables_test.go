package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCase_E14_EveryCommandWarnsOfAMistypedVariableOnce(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	commands := [][]string{
		{"run"},
		{"get", "-o", filepath.Join(dir, "get"), "good000001"},
		{"add", "good000001"},
		{"list"},
		{"list", "--json"},
		{"show", "good000001"},
		{"show", "--json", "good000001"},
		{"retry", "good000001"},
		{"retry", "--all", "--json"},
		{"remove", "good000001"},
		{"verify"},
		{"verify", "--json"},
		{"check", "--offline"},
		{"check", "--adopt-volume"},
		{"backup", filepath.Join(dir, "copy")},
		{"restore", filepath.Join(dir, "none")},
		{"config"},
		{"health"},
		{"version"},
		{"man", filepath.Join(dir, "man")},
		{"completion", "bash"},
		{"help"},
	}
	tried := map[string]bool{"demo": true} // its daemon is one of the others
	for _, args := range commands {
		tried[args[0]] = true
		var out, errs bytes.Buffer
		execute(t.Context(), append(args, "--config", os.DevNull, "--set", "data_dir="+dir), system{
			getenv: func(string) (string, bool) { return "", false }, environ: func() []string { return []string{"ASSETD_DATA_DRI=/x"} },
			stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
		})
		const text = "environment ASSETD_DATA_DRI: is not a variable that assetd knows and has no effect; did you mean ASSETD_DATA_DIR?"
		if n := strings.Count(errs.String(), text); n != 1 || strings.Contains(out.String(), text) {
			t.Errorf("assetd %s: warned %d times on standard error, want once\n%s", strings.Join(args, " "), n, errs.String())
		}
	}
	for _, c := range newRoot(&app{}, new(bytes.Buffer)).Commands() {
		if !tried[c.Name()] {
			t.Errorf("assetd %s was not tried", c.Name())
		}
	}
}
