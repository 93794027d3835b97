package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// verified is an asset as a crash leaves it: the queue has it, its bytes are where
// at says ("part", "file", both or neither).
func (r *rig) verified(t *testing.T, id, text string, part, file bool) run.Key {
	t.Helper()
	key := r.asset("run1", run.Images, id)
	w := whole(key, []byte(text))
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	rr := r.q.runs["run1"]
	rr.Dir = "app/run1"
	r.q.runs["run1"] = rr
	a := r.q.assets[key]
	a.State = run.AssetVerified
	a.Stored = &run.Stored{File: "images/" + id + ".png", Size: w.Size, SHA256: w.SHA256}
	r.q.assets[key] = a
	if part {
		plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+partExt), text)
	}
	if file {
		plantFile(t, filepath.Join(r.dir, "app/run1/images", id+".png"), text)
	}
	return key
}

func (r *rig) resume(key run.Key) error {
	done := make(chan error, 1)
	a, _ := r.q.Asset(context.Background(), key)
	r.Resume(a, func(err error) { done <- err })
	return <-done
}

func TestVerifiedAssetsGoOnAfterARestart(t *testing.T) {
	for _, c := range []struct{ part, file bool }{{true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("part %v file %v", c.part, c.file), func(t *testing.T) {
			r := newRig(t)
			r.running()
			key := r.verified(t, "i", "picture", c.part, c.file)
			must(t, r.resume(key))
			if r.q.state(key) != run.AssetStored || r.content("app/run1/images/i.png") != "picture" {
				t.Errorf("state %s", r.q.state(key))
			}
			if n := len(r.tree()); n != 1 {
				t.Errorf("left %q", r.tree())
			}
			must(t, r.resume(key)) // stored already
		})
	}
}

func TestVerifiedAssetsWhoseBytesAreNowhereAreFetchedAgain(t *testing.T) {
	for _, c := range []struct{ part, file string }{{}, {part: "pictur"}, {part: "pictures"}, {file: "holiday"}, {part: "PICTURE", file: "PICTURE"}} {
		r := newRig(t)
		r.running()
		key := r.verified(t, "i", "picture", false, false)
		if c.part != "" {
			plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+partExt), c.part)
		}
		if c.file != "" {
			plantFile(t, filepath.Join(r.dir, "app/run1/images/i.png"), c.file)
		}
		if err := r.resume(key); err == nil {
			t.Errorf("%+v: stored", c)
		}
		if r.q.state(key) != run.AssetWaiting || r.q.count("stored") != 0 {
			t.Errorf("%+v: state %s", c, r.q.state(key))
		}
		// Fetched anew, it finds the name as it is.
		r.mustKeep(key, []byte("picture"))
		if got := r.content(r.q.file(key)); got != "picture" {
			t.Errorf("%+v: %q", c, got)
		}
		if c.file != "" && r.content("app/run1/images/i.png") != c.file {
			t.Errorf("%+v: a stranger's file was overwritten", c)
		}
	}
}

func TestAVerifiedAssetWhoseNameWasTakenMeanwhileGetsANewOne(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.verified(t, "i", "picture", true, false)
	plantFile(t, filepath.Join(r.dir, "app/run1/images/i.png"), "a stranger's")
	must(t, r.resume(key))
	if got := r.q.file(key); got != "app/run1/images/i-"+shortSum("i")+".png" || r.content(got) != "picture" {
		t.Errorf("stored as %q", got)
	}
	if r.content("app/run1/images/i.png") != "a stranger's" {
		t.Error("overwritten")
	}
}

func TestVerifiedAssetsWaitForTheirVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.running()
		key := r.verified(t, "i", "picture", true, false)
		marker := filepath.Join(r.dir, markerFile)
		must(t, os.Rename(marker, marker+".away"))
		done := make(chan error, 1)
		r.Resume(r.q.assets[key], func(err error) { done <- err })
		time.Sleep(time.Hour)
		if len(done) != 0 || r.q.state(key) != run.AssetVerified {
			t.Errorf("state %s", r.q.state(key))
		}
		must(t, os.Rename(marker+".away", marker))
		r.Wake()
		synctest.Wait()
		if len(done) != 1 {
			t.Fatal("not looked at when woken")
		}
		must(t, <-done)
		must(t, stop())
	})
}

func TestAPartThatCannotBeReadIsFetchedAgain(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.verified(t, "i", "picture", true, false)
	real := r.sys.read
	r.sys.read = func(f *os.File, b []byte, off int64) (int, error) {
		if filepath.Ext(f.Name()) == partExt {
			return 0, &os.PathError{Op: "read", Path: f.Name(), Err: unix.EIO}
		}
		return real(f, b, off)
	}
	if err := r.resume(key); err == nil || r.q.state(key) != run.AssetWaiting {
		t.Errorf("%v, %s", err, r.q.state(key))
	}
}

func TestOnlyVerifiedAssetsAreResumed(t *testing.T) {
	r := newRig(t)
	r.running()
	if err := r.resume(r.asset("run1", run.Images, "w")); !errors.Is(err, run.ErrStale) {
		t.Errorf("waiting: %v", err)
	}
	if err := r.resume(run.Key{Run: "none", Kind: run.Images, ID: "x"}); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	key := r.asset("run1", run.Images, "busy")
	p, err := r.Part(key)
	must(t, err)
	if err := r.resume(key); err == nil {
		t.Error("resumed while its part is open")
	}
	must(t, p.Close())
}
