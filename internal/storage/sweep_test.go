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

func TestDiscardRemovesPartsAndQuarantineOfTheseAssetsAlone(t *testing.T) {
	r := newRig(t)
	gone, kept, busy := r.asset("run1", run.Videos, "gone"), r.asset("run1", run.Videos, "kept"), r.asset("run1", run.Videos, "busy")
	must(t, r.Discard([]run.Key{gone})) // nothing is there yet
	for _, key := range []run.Key{gone, kept} {
		p, err := r.write(key, strong, []byte("part"))
		must(t, err)
		must(t, p.Close())
		plantFile(t, filepath.Join(r.dir, quarantineDir, key.Hash()), "<html>")
	}
	p, err := r.write(busy, strong, []byte("busy"))
	must(t, err)
	defer p.Close()
	must(t, r.Discard([]run.Key{gone, busy}))
	var want []string
	for _, key := range []run.Key{kept, busy} {
		want = append(want, partsDir+"/"+key.Hash()+partExt, partsDir+"/"+key.Hash()+cardExt)
	}
	want = append(want, quarantineDir+"/"+kept.Hash())
	left := r.tree()
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

func TestNothingIsDiscardedOfAVolumeThatIsOffline(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Videos, "gone")
	plantFile(t, filepath.Join(r.dir, quarantineDir, key.Hash()), "<html>")
	must(t, os.Remove(filepath.Join(r.dir, markerFile)))
	if err := r.Discard([]run.Key{key}); !errors.Is(err, run.ErrVolumeOffline) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, quarantineDir, key.Hash())); err != nil {
		t.Error(err)
	}
}
