package storage

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
)

// keepEarly writes an asset and keeps it without a name, as the pool does.
func (r *rig) keepEarly(key run.Key, mark run.PartMark, text string) run.Whole {
	r.t.Helper()
	p, err := r.write(key, mark, []byte(text))
	must(r.t, err)
	must(r.t, p.KeepProvisional(int64(len(text))))
	return r.provisional(key, text)
}

// provisional is what the queue notes of it, as it stands once its run has ended.
func (r *rig) provisional(key run.Key, text string) run.Whole {
	w := whole(key, []byte(text))
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	a := r.q.assets[key]
	a.Provisional = &run.Provisional{Size: w.Size, SHA256: w.SHA256, Ext: w.Ext}
	r.q.assets[key] = a
	return w
}

func (r *rig) confirm(w run.Whole) error {
	done := make(chan error, 1)
	r.Confirm(w, func(err error) { done <- err })
	return <-done
}

// early is what is kept of an asset without a name; empty: nothing.
func (r *rig) early(key run.Key) string {
	data, _ := os.ReadFile(filepath.Join(r.dir, partsDir, key.Hash()+provisionalExt))
	return string(data)
}

func TestCase_A3_ProvisionalBytesGetTheirNameWhenTheyAreConfirmed(t *testing.T) {
	for name, mark := range map[string]run.PartMark{"small": {Total: 7}, "resumable": {ETag: `"e"`, Total: 7}, "of unknown size": {Total: -1}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.running()
			key := r.asset("run1", run.Images, "i")
			w := r.keepEarly(key, mark, "picture")
			if len(r.tree()) != 1 || r.early(key) != "picture" {
				t.Fatalf("kept as %q", r.tree())
			}
			if _, err := r.Sweep(t.Context(), func() (map[string]bool, error) { return map[string]bool{key.Hash(): true}, nil }); err != nil || r.early(key) == "" {
				t.Errorf("swept: %v", err)
			}
			if sizes, err := r.Parts(); err != nil || len(sizes) != 0 {
				t.Errorf("it would be deleted to make room: %v, %v", sizes, err)
			}
			must(t, r.confirm(w))
			if r.q.state(key) != run.AssetStored || r.content("app/run1/images/i.png") != "picture" {
				t.Errorf("%s, %q", r.q.state(key), r.tree())
			}
			info, err := os.Stat(filepath.Join(r.dir, "app/run1/images/i.png"))
			if err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if n := len(r.tree()); n != 1 {
				t.Errorf("left %q", r.tree())
			}
			must(t, r.confirm(w)) // stored already
		})
	}
}

// A crash between any two steps leaves one of these, and the bytes are there after it.
func TestCase_A3_ProvisionalBytesOutliveACrash(t *testing.T) {
	for name, c := range map[string]struct {
		state             run.AssetState
		part, early, file string
	}{
		"kept, nothing more":             {run.AssetWaiting, "", "picture", ""},
		"a fetch again was begun":        {run.AssetWaiting, "pict", "picture", ""},
		"verified, not renamed":          {run.AssetVerified, "", "picture", ""},
		"renamed, not stored":            {run.AssetVerified, "", "", "picture"},
		"another fetched and verified":   {run.AssetVerified, "picture", "older!!", ""},
		"another stored, the older left": {run.AssetVerified, "", "older!!", "picture"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			key := r.verified(t, "i", "picture", false, false)
			for ext, text := range map[string]string{partExt: c.part, provisionalExt: c.early} {
				if text != "" {
					plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+ext), text)
				}
			}
			if c.file != "" {
				plantFile(t, filepath.Join(r.dir, "app/run1/images/i.png"), c.file)
			}
			w := r.provisional(key, "picture")
			r.running()
			if c.state == run.AssetVerified {
				must(t, r.resume(key))
			} else {
				r.q.mu.Lock()
				a := r.q.assets[key]
				a.State, a.Stored = run.AssetWaiting, nil
				r.q.assets[key] = a
				r.q.mu.Unlock()
				must(t, r.confirm(w))
			}
			if r.q.state(key) != run.AssetStored || r.content(r.q.file(key)) != "picture" {
				t.Errorf("%s: %q", r.q.state(key), r.tree())
			}
		})
	}
}

func TestCase_A3_ProvisionalBytesThatAreNotAsTheyWereAreFetchedAgain(t *testing.T) {
	for _, text := range []string{"", "pictur", "PICTURE", "pictures"} {
		r := newRig(t)
		r.running()
		key := r.asset("run1", run.Images, "i")
		w := r.keepEarly(key, run.PartMark{Total: 7}, "picture")
		must(t, os.Remove(filepath.Join(r.dir, partsDir, key.Hash()+provisionalExt)))
		if text != "" {
			plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+provisionalExt), text)
		}
		if err := r.confirm(w); err == nil {
			t.Errorf("%q: stored", text)
		}
		if a := r.q.assets[key]; a.State != run.AssetWaiting || a.Provisional != nil {
			t.Errorf("%q: %s with %+v", text, a.State, a.Provisional)
		}
		r.mustKeep(key, []byte("anew"))
		if got := r.content("app/run1/images/i.png"); got != "anew" {
			t.Errorf("%q", got)
		}
	}
}

// What is fetched again takes the place of what was provisional.
func TestCase_A3_WhatIsFetchedAgainReplacesWhatWasProvisional(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.asset("run1", run.Images, "i")
	r.keepEarly(key, run.PartMark{Total: 7}, "preview")
	r.keepEarly(key, run.PartMark{Total: 6}, "larger")
	if r.early(key) != "larger" || len(r.tree()) != 1 {
		t.Errorf("%q", r.tree())
	}
	r.mustKeep(key, []byte("the result"))
	if n := r.tree(); len(n) != 1 || r.content("app/run1/images/i.png") != "the result" {
		t.Errorf("left %q", n)
	}
	plantFile(t, filepath.Join(r.dir, partsDir, key.Hash()+provisionalExt), "left by a crash")
	must(t, r.RemoveParts([]run.Key{key}))
	if got := r.early(key); got != "" {
		t.Errorf("%q is left of a stored asset", got)
	}
	other := r.asset("run1", run.Images, "j")
	r.keepEarly(other, run.PartMark{Total: 4}, "dead")
	must(t, r.RemovePart(other)) // to make room
	if r.early(other) == "" {
		t.Error("provisional bytes were deleted to make room")
	}
	must(t, r.DropProvisional(other))
	must(t, r.DropProvisional(other))
	if got := r.early(other); got != "" {
		t.Errorf("%q is left", got)
	}
}

// Bytes whose sync failed are not kept.
func TestCase_A3_ProvisionalBytesAreDurableBeforeTheyCount(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Images, "i")
	p, err := r.write(key, run.PartMark{Total: 7}, []byte("picture"))
	must(t, err)
	r.sys.sync = func(*os.File) error { return unix.EIO }
	if err := p.KeepProvisional(7); err == nil {
		t.Error("kept without a sync")
	}
	if got := r.early(key); got != "" {
		t.Errorf("%q is kept", got)
	}
	if p, err = r.Part(key); err != nil {
		t.Fatalf("its part cannot be begun again: %v", err)
	}
	if n, _ := p.Have(); n != 0 {
		t.Errorf("%d bytes of it are believed", n)
	}
	must(t, p.Discard())
	p, err = r.write(key, run.PartMark{Total: 7}, []byte("pictu"))
	must(t, err)
	if err := p.KeepProvisional(7); err == nil {
		t.Error("kept with another size")
	}
}
