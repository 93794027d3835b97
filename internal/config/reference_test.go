package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reference is the page that explains every key.
const reference = "../../configs/README.md"

func TestReference_HoldsEveryKeyWithItsDefaultAndWhetherAReloadAppliesIt(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Default string
		Reload  bool
	}
	want, got := map[string]row{}, map[string]row{}
	for _, k := range table() {
		want[k.name] = row{k.initial, k.live}
	}
	line := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (?:`([^`]*)` )?\\| (reload )?\\| \\S.{10,} \\|$")
	for _, m := range line.FindAllStringSubmatch(string(data), -1) {
		if _, twice := got[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		got[m[1]] = row{m[2], m[3] != ""}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-code +page):\n%s", reference, d)
	}
}

func TestReference_ThePagesNameOnlyKeysThatExist(t *testing.T) {
	keys, sections := map[string]bool{}, map[string]bool{}
	for _, k := range table() {
		keys[k.name] = true
		if section, _, ok := strings.Cut(k.name, "."); ok {
			sections[section] = true
		}
	}
	events := []string{"asset", "run", "disk", "volume"} // of hooks: no sections
	named := 0
	for _, pattern := range []string{"../../*.md", "../../*/*.md", "../*/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			data, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile("`(?:--set )?(([a-z]+)\\.[a-z_]+)(?:[:=][^`]*)?`").FindAllStringSubmatch(string(data), -1) {
				if !sections[m[2]] || slices.Contains(events, m[2]) || m[1] == "api.refused" || m[1] == "api.accepted" || m[1] == "queue.db" {
					continue
				}
				named++
				if !keys[m[1]] {
					t.Errorf("%s names %s, which is no key", page, m[1])
				}
			}
			for _, m := range regexp.MustCompile("(?ms)^```yaml\n(\\w+:.*?)^```$").FindAllStringSubmatch(string(data), -1) {
				if section, _, _ := strings.Cut(m[1], ":"); !sections[section] {
					continue // not ours
				}
				if _, _, err := Load(Options{File: write(t, "example.yaml", m[1])}); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d keys found", named)
	}
}
