package config

import (
	"os"
	"regexp"
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
