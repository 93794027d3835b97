package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func TestAnAssetIsStoredWholeUnderItsNameWithItsModes(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	r := newRig(t, func(c *Config) { c.FileMode, c.DirMode = 0o644, 0o755 })
	r.running()
	key := r.asset("run1", run.Images, "abc")
	r.mustKeep(key, []byte("picture"))
	if got := r.content("app/run1/images/abc.png"); got != "picture" {
		t.Errorf("content %q", got)
	}
	for name, want := range map[string]fs.FileMode{"app/run1/images/abc.png": 0o644, "app/run1/images": 0o755, "app": 0o755} {
		info, err := os.Stat(filepath.Join(r.dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if got := r.q.state(key); got != run.AssetStored {
		t.Errorf("state %s", got)
	}
	if got := r.tree(); !slices.Equal(got, []string{"app/run1/images/abc.png"}) {
		t.Errorf("more is left than the file: %q", got)
	}
	if !slices.Equal(r.ready, []run.ID{"run1"}) {
		t.Errorf("ready runs %q", r.ready)
	}
}

func TestManyAssetsShareSyncsAndCommits(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	syncs, wholes := 0, 0
	one, all := r.sys.sync, r.sys.syncFS
	r.sys.syncTold = true
	r.sys.sync = func(f *os.File) error { mu.Lock(); syncs++; mu.Unlock(); return one(f) }
	r.sys.syncFS = func(f *os.File) error { mu.Lock(); wholes++; mu.Unlock(); return all(f) }
	var wg sync.WaitGroup
	for i := range 20 {
		key := r.asset("run1", run.Images, fmt.Sprint("id", i))
		data := body(100+i, key.ID)
		p, err := r.write(key, run.PartMark{Total: -1}, data)
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		p.Keep(whole(key, data), func(err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	r.running() // only now: all wait
	wg.Wait()
	if r.q.count("verified") != 1 || r.q.count("stored") != 1 {
		t.Errorf("%d and %d commits, want 1 and 1", r.q.count("verified"), r.q.count("stored"))
	}
	h, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if st, err := r.sys.statfs(h); err == nil && localFS(st) && (syncs != 0 || wholes != 2) {
		t.Errorf("%d syncs of files and %d of the file system, want 0 and 2", syncs, wholes)
	}
	for i := range 20 {
		id := fmt.Sprint("id", i)
		if got := r.content("app/run1/images/" + id + ".png"); got != string(body(100+i, id)) {
			t.Errorf("%s has other bytes", id)
		}
	}
}

func TestOneBadFileDoesNotFailItsNeighbours(t *testing.T) {
	r := newRig(t)
	r.sys.syncTold = false // each file its own sync
	real, hit := r.sys.sync, 0
	var mu sync.Mutex
	bad := r.asset("run1", run.Images, "bad")
	r.sys.sync = func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(f.Name(), bad.Hash()) {
			hit++
			return &fs.PathError{Op: "sync", Path: f.Name(), Err: unix.EIO}
		}
		return real(f)
	}
	errs := map[string]error{}
	var wg sync.WaitGroup
	for _, id := range []string{"a", "b", "bad", "c"} {
		key := r.asset("run1", run.Images, id)
		p, err := r.write(key, run.PartMark{Total: -1}, []byte(id))
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		p.Keep(whole(key, []byte(id)), func(err error) { mu.Lock(); errs[id] = err; mu.Unlock(); wg.Done() })
	}
	r.running()
	wg.Wait()
	if hit != 1 {
		t.Errorf("%d syncs failed, want 1: a failed sync is never repeated", hit)
	}
	for _, id := range []string{"a", "b", "c"} {
		if errs[id] != nil {
			t.Errorf("neighbour %s: %v", id, errs[id])
		}
	}
	if !errors.Is(errs["bad"], unix.EIO) {
		t.Errorf("bad: %v", errs["bad"])
	}
	if r.q.state(bad) != run.AssetWaiting {
		t.Errorf("bad is %s", r.q.state(bad))
	}
	if got := r.tree(); len(got) != 3 {
		t.Errorf("left: %q, want the three good ones and nothing of the bad one", got)
	}
}

// S03: the part is written from its first byte again, and only that is stored.
func TestAfterAFailedSyncThePartBeginsAnew(t *testing.T) {
	r := newRig(t)
	real, failed := r.sys.sync, false
	r.sys.sync = func(f *os.File) error {
		if !failed && strings.HasSuffix(f.Name(), partExt) {
			failed = true
			return unix.EIO
		}
		return real(f)
	}
	r.running()
	key := r.asset("run1", run.Videos, "v")
	data := body(1000, "v")
	mark := run.PartMark{ETag: `"x"`, Total: 1000}
	p, err := r.write(key, mark, data)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.Keep(whole(key, data), func(err error) { done <- err })
	if err := <-done; !errors.Is(err, unix.EIO) || !failed {
		t.Fatalf("err %v, failed %v", err, failed)
	}
	if p, err = r.Part(key); err != nil {
		t.Fatal(err)
	}
	if n, _ := p.Have(); n != 0 {
		t.Errorf("%d bytes of the failed part are still believed", n)
	}
	p.Close()
	r.mustKeep(key, data)
}

func TestWhenSyncFSFailsAllAreWrittenAnewAndEachIsSyncedNextTime(t *testing.T) {
	r := newRig(t)
	r.sys.syncTold = true
	all, failed := r.sys.syncFS, 0
	r.sys.syncFS = func(f *os.File) error {
		if failed == 0 {
			failed++
			return unix.EIO
		}
		failed++
		return all(f)
	}
	h, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if st, err := r.sys.statfs(h); err != nil || !localFS(st) {
		testenv.Missing(t, "a local file system, with syncfs, below the temporary directory")
	}
	var wg sync.WaitGroup
	store := func() {
		for i := range filesForSyncFS {
			key := r.asset("run1", run.Images, fmt.Sprint(i))
			p, err := r.write(key, run.PartMark{Total: -1}, []byte(key.ID))
			if err != nil {
				t.Fatal(err)
			}
			wg.Add(1)
			p.Keep(whole(key, []byte(key.ID)), func(error) { wg.Done() })
		}
	}
	store()
	r.running()
	wg.Wait()
	if got := r.tree(); len(got) != 0 || failed != 1 {
		t.Fatalf("after a failed syncfs %q is left (%d calls)", got, failed)
	}
	store()
	wg.Wait()
	if got := r.tree(); len(got) != filesForSyncFS {
		t.Errorf("second time: %q", got)
	}
	if failed != 1 {
		t.Error("syncfs was called again right after it had failed")
	}
}

// S10.
func TestWhatStandsUnderAFinalNameIsNeverOverwritten(t *testing.T) {
	suffixed := func(id string) string { return "app/run1/images/" + id + "-" + shortSum(id) + ".png" }
	for _, c := range []struct {
		name  string
		plant func(t *testing.T, path string)
		want  string
	}{
		{"same bytes", func(t *testing.T, p string) { plantFile(t, p, "picture") }, "app/run1/images/id.png"},
		{"other bytes", func(t *testing.T, p string) { plantFile(t, p, "holiday") }, suffixed("id")},
		{"a directory", func(t *testing.T, p string) { must(t, os.MkdirAll(p, 0o755)) }, suffixed("id")},
		{"a FIFO", func(t *testing.T, p string) { must(t, unix.Mkfifo(p, 0o644)) }, suffixed("id")},
		{"a dangling symbolic link", func(t *testing.T, p string) { must(t, os.Symlink("nowhere", p)) }, suffixed("id")},
		{"a link to the same bytes", func(t *testing.T, p string) {
			plantFile(t, p+".target", "picture")
			must(t, os.Symlink("id.png.target", p))
		}, suffixed("id")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.running()
			final := filepath.Join(r.dir, "app/run1/images/id.png")
			must(t, os.MkdirAll(filepath.Dir(final), 0o755))
			c.plant(t, final)
			before, err := os.Lstat(final)
			must(t, err)
			key := r.asset("run1", run.Images, "id")
			r.mustKeep(key, []byte("picture"))
			if got := r.q.file(key); got != c.want {
				t.Errorf("stored as %q, want %q", got, c.want)
			}
			if got := r.content(c.want); got != "picture" {
				t.Errorf("content %q", got)
			}
			after, err := os.Lstat(final)
			if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
				t.Errorf("what stood there was touched: %v", err)
			}
			if n := len(partsLeft(t, r)); n != 0 {
				t.Errorf("%d parts are left", n)
			}
		})
	}
}

func partsLeft(t *testing.T, r *rig) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.dir, partsDir))
	must(t, err)
	return entries
}

func plantFile(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNamesThatTheQueueGaveToOthersGetASuffix(t *testing.T) {
	r := newRig(t)
	ids := []string{"Pic", "pic", "PIC"}
	var wg sync.WaitGroup
	for _, id := range ids {
		key := r.asset("run1", run.Images, id)
		p, err := r.write(key, run.PartMark{Total: -1}, []byte(id))
		must(t, err)
		wg.Add(1)
		p.Keep(whole(key, []byte(id)), func(err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		})
	}
	r.running()
	wg.Wait()
	names := map[string]bool{}
	for _, id := range ids {
		name := r.q.file(run.Key{Run: "run1", Kind: run.Images, ID: id})
		if r.content(name) != id {
			t.Errorf("%s has other bytes", name)
		}
		names[strings.ToLower(name)] = true
	}
	if len(names) != 3 {
		t.Errorf("names %v differ by case alone", names)
	}
}

func TestANameTakenBetweenLookAndRenameLeadsToAnotherName(t *testing.T) {
	for _, supported := range []bool{true, false} {
		t.Run(fmt.Sprint("renameat2 ", supported), func(t *testing.T) {
			r := newRig(t)
			real, planted := r.sys.place, 0
			r.sys.place = func(from *os.File, name string, to *os.File, as string) error {
				if planted == 0 {
					planted++
					plantFile(t, filepath.Join(r.dir, "app/run1/images/id.png"), "a stranger's")
				}
				if !supported {
					return unix.EINVAL
				}
				return real(from, name, to, as)
			}
			r.running()
			key := r.asset("run1", run.Images, "id")
			r.mustKeep(key, []byte("picture"))
			if planted != 1 || r.content("app/run1/images/id.png") != "a stranger's" {
				t.Error("the stranger's file was overwritten")
			}
			if got := r.q.file(key); got != "app/run1/images/id-"+shortSum("id")+".png" || r.content(got) != "picture" {
				t.Errorf("stored as %q", got)
			}
		})
	}
}

// P4.1: an NFS rename that worked and reports that it did not.
func TestARenameThatWorkedAndSaysItDidNotCounts(t *testing.T) {
	r := newRig(t)
	real, fired := r.sys.place, false
	r.sys.place = func(from *os.File, name string, to *os.File, as string) error {
		if err := real(from, name, to, as); err != nil {
			return err
		}
		fired = true
		return unix.ENOENT
	}
	r.running()
	key := r.asset("run1", run.Images, "id")
	r.mustKeep(key, []byte("picture"))
	if !fired || r.q.file(key) != "app/run1/images/id.png" {
		t.Errorf("fired %v, stored as %q", fired, r.q.file(key))
	}
}

// S09.
func TestSymbolicLinksAreRefusedAndTheirTargetsUntouched(t *testing.T) {
	for _, c := range []struct{ name, link string }{
		{"the app's directory", "app"},
		{"the run's directory", "app/run1"},
		{"the kind's directory", "app/run1/images"},
		{"the card", partsDir + "/" + run.Key{Run: "run1", Kind: run.Images, ID: "id"}.Hash() + sidecarExt},
		{"the part", partsDir + "/" + run.Key{Run: "run1", Kind: run.Images, ID: "id"}.Hash() + partExt},
		{"the directory of parts", partsDir},
	} {
		for _, outside := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, " outside ", outside), func(t *testing.T) {
				r := newRig(t)
				r.running()
				target := filepath.Join(r.dir, "elsewhere")
				if outside {
					target = filepath.Join(t.TempDir(), "elsewhere")
				}
				if filepath.Ext(c.link) != "" {
					plantFile(t, target, "precious")
				} else {
					must(t, os.MkdirAll(target, 0o755))
				}
				link := filepath.Join(r.dir, c.link)
				must(t, os.MkdirAll(filepath.Dir(link), 0o755))
				must(t, os.Symlink(target, link))
				key := r.asset("run1", run.Images, "id")
				ended := make(chan error, 1)
				go func() { ended <- r.keep(key, []byte("picture")) }()
				if err := <-ended; err == nil || !strings.Contains(err.Error(), "symbolic link") {
					t.Errorf("err = %v, want one that names the link", err)
				}
				if filepath.Ext(c.link) != "" {
					if data, err := os.ReadFile(target); err != nil || string(data) != "precious" {
						t.Errorf("target now %q, %v", data, err)
					}
				} else if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
					t.Errorf("target now holds %v, %v", entries, err)
				}
				if r.q.state(key) != run.AssetWaiting {
					t.Errorf("state %s", r.q.state(key))
				}
			})
		}
	}
}

func TestADirectoryExchangedForALinkWhileItIsOpenedIsRefused(t *testing.T) {
	r := newRig(t)
	r.running()
	must(t, os.MkdirAll(filepath.Join(r.dir, "app/run1"), 0o755))
	must(t, os.MkdirAll(filepath.Join(r.dir, "app/elsewhere"), 0o755))
	real, swapped := r.sys.lstat, false
	r.sys.lstat = func(root *os.Root, name string) (fs.FileInfo, error) {
		info, err := real(root, name)
		if name == "run1" && !swapped {
			swapped = true
			must(t, os.Rename(filepath.Join(r.dir, "app/run1"), filepath.Join(r.dir, "app/was")))
			must(t, os.Symlink("elsewhere", filepath.Join(r.dir, "app/run1")))
		}
		return info, err
	}
	key := r.asset("run1", run.Images, "i")
	if err := r.keep(key, []byte("picture")); err == nil || !strings.Contains(err.Error(), "exchanged") {
		t.Errorf("err = %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(r.dir, "app/elsewhere")); len(entries) != 0 || !swapped {
		t.Errorf("written through the link: %v", entries)
	}
}

func TestAFileWithTheSameBytesIsMadeDurableBeforeItCounts(t *testing.T) {
	r := newRig(t)
	d := faulty(r)
	r.sys.syncTold = false
	plantFile(t, filepath.Join(r.dir, "app/run1/images/id.png"), "picture") // not synced by anybody
	r.running()
	key := r.asset("run1", run.Images, "id")
	seen := false
	r.q.stored = func(_ run.Key, s run.Stored) {
		seen = true
		if why := d.durable("app/run1/"+s.File, []byte("picture")); why != "" {
			t.Errorf("told stored, but %s", why)
		}
	}
	r.mustKeep(key, []byte("picture"))
	if got := r.q.file(key); got != "app/run1/images/id.png" || !seen {
		t.Errorf("stored as %q", got)
	}
}

func TestSyncFSGoesThroughTheDescriptorThatWasOpenedFirst(t *testing.T) {
	r := newRig(t)
	var used []string
	r.sys.syncTold = true
	r.sys.syncFS = func(f *os.File) error { used = append(used, filepath.Base(f.Name())); return nil }
	r.sys.statfs = func(*os.File) (unix.Statfs_t, error) {
		return unix.Statfs_t{Type: unix.EXT4_SUPER_MAGIC, Blocks: 1 << 40, Bavail: 1 << 40, Frsize: 1}, nil
	}
	parts := make([]*Part, filesForSyncFS)
	for i := range parts {
		p, err := r.write(r.asset("run1", run.Images, fmt.Sprint(i)), run.PartMark{Total: -1}, []byte("x"))
		must(t, err)
		parts[i] = p
	}
	for _, p := range slices.Backward(parts) {
		p.Keep(whole(p.key, []byte("x")), func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, r.Run(ctx))
	if len(used) == 0 || used[0] != parts[0].hash+partExt {
		t.Errorf("through %q, want first the part that was opened first", used)
	}
}

func TestAHardLinkedPartIsNotWrittenThrough(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Images, "id")
	plantFile(t, filepath.Join(r.dir, "victim"), "precious")
	must(t, os.MkdirAll(filepath.Join(r.dir, partsDir), 0o755))
	must(t, os.Link(filepath.Join(r.dir, "victim"), filepath.Join(r.dir, partsDir, key.Hash()+partExt)))
	if err := r.keep(key, []byte("picture")); err == nil || !strings.Contains(err.Error(), "hard link") {
		t.Errorf("err = %v", err)
	}
	if r.content("victim") != "precious" {
		t.Error("the other name's bytes were overwritten")
	}
}

// S13.
func TestInterruptedCallsAreRepeated(t *testing.T) {
	r := newRig(t)
	calls, interrupted := 0, 0
	third := func() bool {
		calls++
		if calls%3 == 0 {
			interrupted++
			return true
		}
		return false
	}
	place, syncFS, statfs, allocate, lstat, rename := r.sys.place, r.sys.syncFS, r.sys.statfs, r.sys.allocate, r.sys.lstat, r.sys.rename
	r.sys.place = func(a *os.File, n string, b *os.File, m string) error {
		if third() {
			return unix.EINTR
		}
		return place(a, n, b, m)
	}
	r.sys.syncFS = func(f *os.File) error {
		if third() {
			return unix.EINTR
		}
		return syncFS(f)
	}
	r.sys.statfs = func(f *os.File) (unix.Statfs_t, error) {
		if third() {
			return unix.Statfs_t{}, unix.EINTR
		}
		return statfs(f)
	}
	r.sys.allocate = func(f *os.File, off, n int64) error {
		if third() {
			return unix.EINTR
		}
		return allocate(f, off, n)
	}
	r.sys.lstat = func(root *os.Root, name string) (fs.FileInfo, error) {
		if third() {
			return nil, &fs.PathError{Op: "statat", Path: name, Err: unix.EINTR}
		}
		return lstat(root, name)
	}
	r.sys.rename = func(root *os.Root, from, to string) error {
		if third() {
			return &os.LinkError{Op: "renameat", Old: from, New: to, Err: unix.EINTR}
		}
		return rename(root, from, to)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	// One goroutine after the other: the counters are plain.
	for i := range 10 {
		key := r.asset("run1", run.Images, fmt.Sprint(i))
		p, err := r.write(key, run.PartMark{ETag: "x", Total: -1}, []byte(key.ID))
		must(t, err)
		must(t, p.Reserve(allocSize))
		p.Keep(whole(key, []byte(key.ID)), func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	go func() { ended <- r.Run(ctx) }()
	cancel()
	must(t, <-ended)
	if len(r.tree()) != 10 || interrupted < 10 {
		t.Errorf("%d files, %d interrupted calls", len(r.tree()), interrupted)
	}
}

// S04.
func TestDirectoriesThatCannotBeSyncedAreToldOnceAndDoneWithout(t *testing.T) {
	for _, errno := range []error{unix.EINVAL, unix.ENOTSUP, unix.ENOTTY} {
		r := newRig(t)
		fired := 0
		r.sys.syncTold = false
		r.sys.syncDir = func(*os.File) error { fired++; return errno }
		r.running()
		for i := range 3 {
			r.mustKeep(r.asset("run1", run.Images, fmt.Sprint(i)), []byte("x"))
		}
		if fired < 3 || r.told(SyncUnsupported) != 1 {
			t.Errorf("%v: %d syncs failed, told %d times", errno, fired, r.told(SyncUnsupported))
		}
	}
}

func TestAFailingDirectorySyncIsNeverToldStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sys.syncTold = false
		real, bad := r.sys.syncDir, true
		var mu sync.Mutex
		r.sys.syncDir = func(f *os.File) error {
			mu.Lock()
			defer mu.Unlock()
			if bad && !strings.Contains(f.Name(), metaDir) {
				return unix.EIO
			}
			return real(f)
		}
		stop := r.running()
		key := r.asset("run1", run.Images, "id")
		p, err := r.write(key, run.PartMark{Total: -1}, []byte("x"))
		must(t, err)
		done := make(chan error, 1)
		p.Keep(whole(key, []byte("x")), func(err error) { done <- err })
		time.Sleep(10 * time.Minute)
		if r.q.count("stored") != 0 || r.q.state(key) != run.AssetVerified || len(done) != 0 {
			t.Errorf("stored was told %d times, state %s", r.q.count("stored"), r.q.state(key))
		}
		if r.told(NameTrouble) != 1 {
			t.Errorf("told %d times, want once", r.told(NameTrouble))
		}
		mu.Lock()
		bad = false
		mu.Unlock()
		r.Wake() // not for this one
		synctest.Wait()
		if len(done) != 0 {
			t.Error("a file is read at every Wake")
		}
		time.Sleep(maxDelay)
		synctest.Wait()
		if len(done) != 1 || r.q.state(key) != run.AssetStored {
			t.Errorf("after it was mended: state %s", r.q.state(key))
		}
		must(t, stop())
	})
}

func TestTheKeeperFinishesWhatItWasHandedBeforeItStops(t *testing.T) {
	r := newRig(t)
	key := r.asset("run1", run.Images, "id")
	p, err := r.write(key, run.PartMark{Total: -1}, []byte("x"))
	must(t, err)
	done := make(chan error, 1)
	p.Keep(whole(key, []byte("x")), func(err error) { done <- err })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, r.Run(ctx))
	must(t, <-done)
	// Afterwards nothing is taken any more, and nothing hangs.
	key = r.asset("run1", run.Images, "late")
	if err := r.keep(key, []byte("y")); !errors.Is(err, errStopped) {
		t.Errorf("kept after the end: %v", err)
	}
	r.Resume(run.Asset{Key: key}, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, errStopped) {
		t.Errorf("resumed after the end: %v", err)
	}
	if len(r.inUse) != 0 {
		t.Errorf("still in use: %v", r.inUse)
	}
}

func TestAPassingTroubleOfTheQueueHoldsAssetsAndLosesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.running()
		failing := true
		r.q.fault = func(op string) error {
			if failing && (op == "verified" || op == "stored") {
				return errors.New("no space left for the queue")
			}
			return nil
		}
		key := r.asset("run1", run.Images, "id")
		p, err := r.write(key, run.PartMark{Total: -1}, []byte("x"))
		must(t, err)
		done := make(chan error, 1)
		p.Keep(whole(key, []byte("x")), func(err error) { done <- err })
		time.Sleep(time.Hour)
		if len(done) != 0 || r.told(run.QueueTrouble) == 0 {
			t.Errorf("told %d times", r.told(run.QueueTrouble))
		}
		r.q.mu.Lock()
		failing = false
		r.q.mu.Unlock()
		time.Sleep(longSleep)
		synctest.Wait()
		if err := <-done; err != nil || r.q.state(key) != run.AssetStored {
			t.Errorf("%v, %s", err, r.q.state(key))
		}
		must(t, stop())
	})
}

func TestARunWithoutADirectoryKeepsNobodyElseWaiting(t *testing.T) {
	r := newRig(t)
	r.running()
	r.q.fault = func(op string) error {
		if op == "place" {
			return run.ErrNameTaken // with every suffix
		}
		return nil
	}
	bad := r.asset("run1", run.Images, "bad")
	if err := r.keep(bad, []byte("x")); !errors.Is(err, run.ErrNameTaken) {
		t.Errorf("err = %v", err)
	}
	r.q.mu.Lock()
	r.q.fault = nil
	r.q.mu.Unlock()
	r.mustKeep(r.asset("run2", run.Images, "good"), []byte("y"))
}

func TestABrokenQueueEndsTheKeeperAndEveryWaitingAssetIsTold(t *testing.T) {
	for _, op := range []string{"get", "asset", "verified", "stored", "again"} {
		t.Run(op, func(t *testing.T) {
			r := newRig(t)
			r.q.broken = errors.New("damaged")
			r.q.fault = func(o string) error {
				if o == op {
					return r.q.broken
				}
				return nil
			}
			if op == "again" {
				r.sys.place = func(*os.File, string, *os.File, string) error { return unix.ENOENT }
			}
			var got []error
			for i := range 3 {
				key := r.asset("run1", run.Images, fmt.Sprint(i))
				p, err := r.write(key, run.PartMark{Total: -1}, []byte("x"))
				must(t, err)
				p.Keep(whole(key, []byte("x")), func(err error) { got = append(got, err) })
			}
			if err := r.Run(t.Context()); !errors.Is(err, r.q.broken) {
				t.Errorf("Run: %v", err)
			}
			if len(got) != 3 || slices.Contains(got, nil) {
				t.Errorf("told %v", got)
			}
		})
	}
}

func TestAnAssetThatTheQueueNoLongerWantsFailsAlone(t *testing.T) {
	r := newRig(t)
	gone := r.asset("run1", run.Images, "gone")
	here := r.asset("run1", run.Images, "here")
	errs := make(map[run.Key]error)
	for _, key := range []run.Key{gone, here} {
		p, err := r.write(key, run.PartMark{Total: -1}, []byte(key.ID))
		must(t, err)
		p.Keep(whole(key, []byte(key.ID)), func(err error) { errs[key] = err })
	}
	r.q.fault = func(op string) error {
		if op == "stored" && r.q.calls[op] == 1 {
			delete(r.q.assets, gone)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, r.Run(ctx))
	if errs[here] != nil || !errors.Is(errs[gone], run.ErrStale) {
		t.Errorf("here %v, gone %v", errs[here], errs[gone])
	}
}

func TestAPanicStopsOneAssetOnly(t *testing.T) {
	r := newRig(t)
	bad := r.asset("run1", run.Images, "bad")
	chmod := r.sys.chmod
	r.sys.chmod = func(f *os.File, m fs.FileMode) error {
		if strings.Contains(f.Name(), bad.Hash()) {
			panic("boom")
		}
		return chmod(f, m)
	}
	r.running()
	if err := r.keep(bad, []byte("x")); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("err = %v", err)
	}
	r.mustKeep(r.asset("run1", run.Images, "good"), []byte("y"))
	if r.told(run.StageRecovered) != 1 {
		t.Errorf("told %d times", r.told(run.StageRecovered))
	}
}

func TestAPartOfAnotherSizeThanHandedOverIsNotStored(t *testing.T) {
	r := newRig(t)
	r.running()
	key := r.asset("run1", run.Images, "id")
	p, err := r.write(key, run.PartMark{ETag: "e", Total: -1}, []byte("half"))
	must(t, err)
	done := make(chan error, 1)
	p.Keep(whole(key, []byte("half and half")), func(err error) { done <- err })
	if err := <-done; err == nil || !strings.Contains(err.Error(), "4 bytes") {
		t.Errorf("err = %v", err)
	}
	if len(r.tree()) != 0 {
		t.Errorf("left: %q", r.tree())
	}
}

func TestAFileThatLostBytesInItsRenameIsTakenAway(t *testing.T) {
	r := newRig(t)
	real, fired := r.sys.place, false
	r.sys.place = func(from *os.File, name string, to *os.File, as string) error {
		err := real(from, name, to, as)
		if !fired {
			fired = true
			must(t, os.Truncate(filepath.Join(r.dir, "app/run1/images/id.png"), 3))
		}
		return err
	}
	r.running()
	key := r.asset("run1", run.Images, "id")
	if err := r.keep(key, []byte("picture")); err == nil {
		t.Error("three bytes of seven were stored")
	}
	if r.q.state(key) != run.AssetWaiting || len(r.tree()) != 0 {
		t.Errorf("state %s, left %q", r.q.state(key), r.tree())
	}
	r.mustKeep(key, []byte("picture"))
}
