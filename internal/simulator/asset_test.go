package simulator

import (
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func TestAssetsWhosePathsWouldBeTheSameGetTwo(t *testing.T) {
	key := run.Key{Run: "run1", Kind: run.Images, ID: "a"}
	first := New()
	if err := first.AddRun("run1", Image("a", 1000)); err != nil {
		t.Fatal(err)
	}
	path := first.assets[key].path
	second := New()
	second.paths[path] = &asset{}
	if err := second.AddRun("run1", Image("a", 1000)); err != nil {
		t.Fatal(err)
	}
	if got := second.assets[key].path; got == path || second.paths[got] != second.assets[key] {
		t.Errorf("path %s, that of another asset is %s", got, path)
	}
}
