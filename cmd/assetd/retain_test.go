package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// gone waits until nothing matches any of the patterns any more.
func (r *rig) gone(patterns ...string) {
	r.t.Helper()
	for range 2400 {
		left := 0
		for _, p := range patterns {
			found, err := filepath.Glob(filepath.Join(r.dir, p))
			if err != nil {
				r.t.Fatal(err)
			}
			left += len(found)
		}
		if left == 0 {
			return
		}
		pause(r.t, 50*time.Millisecond)
	}
	r.t.Fatalf("still there: %v\n%s", patterns, tail(r.log.String(), 3000))
}

// What is old goes as soon as a SIGHUP says what is: runs from the history, with what
// was kept of them, and accepted drop files. What is stored stays.
func TestAfterASIGHUPWhatIsOldByThenGoesAndWhatIsStoredStays(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	r := newRig(t, nil)
	r.settings = slices.DeleteFunc(r.settings, func(s string) bool { return strings.HasPrefix(s, "log.") })
	ids := []run.ID{"retain0001", "retain0002"}
	for i, opts := range [][]simulator.RunOption{
		{simulator.App("app1"), simulator.Image("img1", 9000)},
		{simulator.App("app1"), simulator.Image("page", 9000, simulator.HTML())},
	} {
		if err := r.sim.AddRun(ids[i], opts...); err != nil {
			t.Fatal(err)
		}
	}
	r.settings = append(r.settings, "download.give_up_after=500ms")
	file := filepath.Join(r.dir, "assetd.yaml")
	key := filepath.Join(r.dir, "key")
	plant(t, key, r.sim.Key())
	config := "api: {key_file: " + key + "}\n"
	plant(t, file, config)
	p := r.launch(r.withFile(file, "run")).ready()
	list := filepath.Join(r.dir, "list.txt")
	plant(t, list, string(ids[0])+"\n"+string(ids[1])+"\n")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(list, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(list, filepath.Join(r.dir, "drop", "list.txt")); err != nil {
		t.Fatal(err)
	}
	r.waitSettled(2, time.Minute)
	quarantine := filepath.Join("assets", ".assetd", "quarantine", "*")
	if found, _ := filepath.Glob(filepath.Join(r.dir, quarantine)); len(found) != 1 {
		t.Errorf("in quarantine: %v", found)
	}
	p.reload(file, config+"retention: {runs: 1s}\ndrop: {keep: 1s}\n", "configuration and key read again")
	r.gone(quarantine, filepath.Join("drop", "accepted", "*"))
	out, _, _ := r.output("list")
	for _, id := range ids {
		if strings.Contains(out, string(id)) {
			t.Errorf("run %s is still in the history:\n%s", id, out)
		}
	}
	manifests, _ := filepath.Glob(filepath.Join(r.dir, "assets", "app1", "*", "manifest.json"))
	if images, _ := filepath.Glob(filepath.Join(r.dir, "assets", "app1", "*", "images", "*")); len(images) != 1 || len(manifests) != 2 {
		t.Errorf("stored: %v, %v", images, manifests)
	}
	r.handIn(ids[:1]) // handed in anew it is settled from its manifest
	r.waitSettled(1, time.Minute)
	if n := r.fetched(ids[0]); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}
