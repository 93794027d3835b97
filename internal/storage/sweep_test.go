package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// S14.
func TestSweepRemovesThousandsOfStalePartsAndNothingElse(t *testing.T) {
	r := newRig(t)
	kept, busy := r.asset("run1", run.Videos, "kept"), r.asset("run1", run.Videos, "busy")
	p, err := r.write(kept, strong, []byte("kept"))
	must(t, err)
	must(t, p.Close())
	p, err = r.write(busy, strong, []byte("busy"))
	must(t, err)
	defer p.Close()
	for i := range 10_000 {
		must(t, os.WriteFile(filepath.Join(r.dir, partsDir, fmt.Sprintf("%020x.part", i)), nil, 0o600))
	}
	stay := []string{
		metaDir + "/queue.db", metaDir + "/answers/run1.json", // a queue that lives there
		quarantineDir + "/0123456789abcdef0123",
		"app/run1/images/a.part", "app/run1/images/a.png",
	}
	for _, name := range stay {
		plantFile(t, filepath.Join(r.dir, name), "x")
	}
	for _, name := range []string{
		metaDir + "/volume.tmp", metaDir + "/old.part",
		partsDir + "/00.json", partsDir + "/00.json.tmp", partsDir + "/what", partsDir + "/probe.tmp",
	} {
		plantFile(t, filepath.Join(r.dir, name), "x")
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(r.dir, partsDir, "link.part")))
	n, err := r.Sweep(t.Context(), func() (map[string]bool, error) { return map[string]bool{kept.Hash(): true}, nil })
	if err != nil || n != 10_007 {
		t.Errorf("removed %d, %v", n, err)
	}
	for _, key := range []run.Key{kept, busy} {
		stay = append(stay, partsDir+"/"+key.Hash()+partExt, partsDir+"/"+key.Hash()+sidecarExt)
	}
	left := r.tree()
	slices.Sort(left)
	slices.Sort(stay)
	if !slices.Equal(left, stay) {
		t.Errorf("left %q, want %q", left, stay)
	}
	must(t, r.Check()) // the marker stands
}

func TestSweepEndsWhenItIsToldTo(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plantFile(t, filepath.Join(r.dir, partsDir, "0.part"), "x")
	if n, err := r.Sweep(ctx, func() (map[string]bool, error) { return nil, nil }); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("removed %d, %v", n, err)
	}
}

// Work goes on while the volume is swept: what comes after the listing stays.
func TestCase_F_SweepLeavesPartsThatComeMeanwhile(t *testing.T) {
	r := newRig(t)
	late := r.asset("run1", run.Videos, "late")
	must(t, os.MkdirAll(filepath.Join(r.dir, partsDir), 0o700))
	plantFile(t, filepath.Join(r.dir, partsDir, "00.part"), "x")
	n, err := r.Sweep(t.Context(), func() (map[string]bool, error) {
		p, err := r.write(late, strong, []byte("late"))
		must(t, err)
		return nil, p.Close()
	})
	if err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, partsDir, late.Hash()+partExt)); err != nil {
		t.Errorf("a part that came meanwhile: %v", err)
	}
	if _, err := r.Sweep(t.Context(), func() (map[string]bool, error) { return nil, errors.New("no queue") }); err == nil {
		t.Error("swept without knowing what is wanted")
	}
	if _, err := os.Stat(filepath.Join(r.dir, partsDir, late.Hash()+partExt)); err != nil {
		t.Errorf("removed without knowing what is wanted: %v", err)
	}
}

func TestCase_F_RemovePartsTakesThoseNamedAndNoOther(t *testing.T) {
	r := newRig(t)
	stored, kept, busy := r.asset("run1", run.Videos, "stored"), r.asset("run1", run.Videos, "kept"), r.asset("run1", run.Videos, "busy")
	for _, key := range []run.Key{stored, kept} {
		p, err := r.write(key, strong, []byte("left"))
		must(t, err)
		must(t, p.Close())
	}
	p, err := r.write(busy, strong, []byte("busy"))
	must(t, err)
	defer p.Close()
	must(t, r.RemoveParts([]run.Key{stored, busy, r.asset("run1", run.Videos, "never")}))
	for key, want := range map[run.Key]bool{stored: false, kept: true, busy: true} {
		for _, ext := range []string{partExt, sidecarExt} {
			if _, err := os.Stat(filepath.Join(r.dir, partsDir, key.Hash()+ext)); (err == nil) != want {
				t.Errorf("%s%s: %v", key.ID, ext, err)
			}
		}
	}
}
