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
	n, err := r.Sweep(t.Context(), func(hash string) bool { return hash == kept.Hash() })
	if err != nil || n != 10_007 {
		t.Errorf("removed %d, %v", n, err)
	}
	for _, key := range []run.Key{kept, busy} {
		stay = append(stay, partsDir+"/"+key.Hash()+partExt, partsDir+"/"+key.Hash()+cardExt)
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
	if n, err := r.Sweep(ctx, func(string) bool { return false }); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("removed %d, %v", n, err)
	}
}
