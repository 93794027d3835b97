package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// trial is a small world: four assets of one run, two of them resumable and slow, of
// which one is written at several places, one whose name a stranger's file has; and
// the run's records.
type trial struct {
	*rig
	disk   *disk
	bodies map[run.Key][]byte
	broke  bool // something of storage told an error
}

const stranger = "app/run1/images/b.png"

// begin makes the world. The same directory and queue go on after a restart.
func begin(t *testing.T, dir string, q *ledger, boot string) *trial {
	w := &trial{rig: openRig(t, plainConfig(dir), q), bodies: map[run.Key][]byte{}}
	w.boot = boot
	if len(q.runs) == 0 {
		plantFile(t, filepath.Join(dir, stranger), "a stranger's")
	}
	for i, id := range []string{"a", "b", "c", "d"} {
		key := run.Key{Run: "run1", Kind: run.Images, ID: id}
		if _, ok := q.assets[key]; !ok {
			w.asset("run1", run.Images, id)
		}
		w.bodies[key] = body(1000+i, id)
	}
	w.disk = faulty(w.rig)
	q.stored = func(key run.Key, s run.Stored) {
		if why := w.disk.durable("app/run1/"+s.File, w.bodies[key]); why != "" {
			t.Errorf("step %d: %s told stored as %s, but %s", w.disk.step, key, s.File, why)
		}
	}
	q.fault = w.disk.ledgerFault
	return w
}

// drive does what the other stages do, until all is stored or it is dead.
func (w *trial) drive() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	defer func() {
		cancel()
		<-ended
	}()
	started := false
	go func() { ended <- w.Run(ctx) }()
	for range 40 {
		if w.disk.isDead() {
			return
		}
		if !started {
			if err := w.Check(); err != nil {
				w.broke = true
				time.Sleep(time.Second)
				continue
			}
			started = true
		}
		if w.round() && w.record() {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

func (d *disk) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// round tries every asset that is not stored once. Done when none is left.
func (w *trial) round() bool {
	ends := make(chan error, len(w.bodies))
	begun := 0
	for key, data := range w.bodies {
		switch w.q.state(key) {
		case run.AssetStored:
			continue
		case run.AssetVerified:
			w.q.mu.Lock()
			a := w.q.assets[key]
			w.q.mu.Unlock()
			w.Resume(a, func(err error) { ends <- err })
			begun++
			continue
		}
		p, err := w.Part(key)
		if err != nil {
			w.broke = true
			continue
		}
		if got, ok := w.fill(p, key, data); ok {
			p.Keep(got, func(err error) { ends <- err })
			begun++
		} else {
			w.broke = true
			p.Close()
		}
	}
	for range begun {
		late := time.NewTimer(10 * time.Minute)
		select {
		case err := <-ends:
			w.broke = w.broke || err != nil
		case <-late.C:
			w.broke = true
			if !w.disk.isDead() {
				return false // its end still comes: the keeper tries on
			}
			return true
		}
		late.Stop()
	}
	for key := range w.bodies {
		if w.q.state(key) != run.AssetStored {
			return false
		}
	}
	return true
}

// fill is the transfer: it goes on from what the part has, hashes what it finds
// there, and reserves before it writes.
func (w *trial) fill(p *Part, key run.Key, data []byte) (run.Whole, bool) {
	mark := run.PartMark{Total: int64(len(data))}
	if key.ID == "c" || key.ID == "d" {
		mark.ETag = `"` + key.ID + `"`
	}
	have, under := p.Have()
	if have > 0 && under != mark {
		w.t.Errorf("a part of %s under %+v", key, under)
	}
	if have == 0 {
		if p.Reset(mark) != nil {
			return run.Whole{}, false
		}
	}
	if p.Reserve(int64(len(data))-p.written()) != nil {
		return run.Whole{}, false
	}
	got := make([]byte, have)
	if have > 0 {
		if _, err := p.ReadAt(got, 0); err != nil {
			return run.Whole{}, false
		}
		if !bytes.Equal(got, data[:have]) {
			w.t.Errorf("step %d: the part of %s has other bytes than were written", w.disk.step, key)
		}
	}
	if key.ID == "d" && !w.scatter(p, data) {
		return run.Whole{}, false
	}
	have, _ = p.Have()
	for have < int64(len(data)) {
		n := min(int64(len(data))-have, 400)
		if _, err := p.Write(data[have : have+n]); err != nil {
			return run.Whole{}, false
		}
		have += n
		if key.ID == "c" {
			time.Sleep(syncTime)
			synctest.Wait()
		}
	}
	sum := sha256.Sum256(data)
	return run.Whole{Key: key, Size: have, SHA256: hex.EncodeToString(sum[:]), Ext: ".png"}, true
}

// scatter writes all but the front's first bytes from the end on, each stretch
// beside a slow network.
func (w *trial) scatter(p *Part, data []byte) bool {
	const stretch = 150
	if have, _ := p.Have(); have == 0 {
		if _, err := p.Write(data[:stretch]); err != nil {
			return false
		}
	}
	for _, s := range p.Beyond() {
		got := make([]byte, s.Len())
		if _, err := w.sys.read(p.f, got, s.From); err != nil {
			return false
		}
		if !bytes.Equal(got, data[s.From:s.To]) {
			w.t.Errorf("step %d: the part with gaps has other bytes than were written at %v", w.disk.step, s)
		}
	}
	for end := int64(len(data)); end > 0; end -= stretch {
		from := max(end-stretch, 0)
		if !p.vacant(from, end-from) {
			continue
		}
		if _, err := p.WriteAt(data[from:end], from); err != nil {
			return false
		}
		time.Sleep(syncTime / 2)
		synctest.Wait()
	}
	for p.size < int64(len(data)) {
		end := int64(len(data))
		if far := p.Beyond(); len(far) > 0 {
			end = far[0].From
		}
		if _, err := p.Write(data[p.size:end]); err != nil {
			return false
		}
	}
	return true
}

func (w *trial) record() bool {
	errs, err := w.WriteRecords(context.Background(), []run.Records{records("app/run1", 1)})
	if err = errors.Join(append(errs, err)...); err != nil {
		w.broke = true
		return false
	}
	for _, f := range records("app/run1", 1).Files {
		if why := w.disk.durable("app/run1/"+f.Name, []byte(written(f))); why != "" {
			w.t.Errorf("step %d: record %s told written, but %s", w.disk.step, f.Name, why)
		}
	}
	return true
}

// judge holds what is on disk against the promises.
func (w *trial) judge(what string, all bool) {
	w.t.Helper()
	allowed := map[string]string{stranger: "a stranger's"}
	for _, f := range records("app/run1", 1).Files {
		allowed["app/run1/"+f.Name] = written(f)
	}
	for key, data := range w.bodies {
		state := w.q.state(key)
		if all && state != run.AssetStored {
			w.t.Errorf("%s: %s is %s at the end", what, key, state)
		}
		for try := range 3 {
			a := run.Asset{Key: key}
			if name := "app/run1/" + w.names.fileFor(a, ".png", try); name != stranger {
				allowed[name] = string(data)
			}
		}
		if state == run.AssetStored {
			if got, err := os.ReadFile(filepath.Join(w.dir, w.q.file(key))); err != nil || !bytes.Equal(got, data) {
				w.t.Errorf("%s: %s is told stored and is not there: %v", what, key, err)
			}
		}
	}
	for _, name := range w.tree() {
		if strings.HasPrefix(name, metaDir) || strings.HasSuffix(name, tempExt) {
			continue
		}
		if want, ok := allowed[name]; !ok || w.content(name) != want {
			w.t.Errorf("%s: wrong file under the final name %s", what, name)
		}
	}
	if _, ok := allowed[stranger]; !ok || w.content(stranger) != "a stranger's" {
		w.t.Errorf("%s: the stranger's file was touched", what)
	}
}

func (w *trial) released(what string, descriptors int) {
	w.t.Helper()
	if n := len(w.inUse); n != 0 {
		w.t.Errorf("%s: %d parts are still in use", what, n)
	}
	if n := w.reservations.total(); n != 0 {
		w.t.Errorf("%s: %d bytes are still promised", what, n)
	}
	if n := len(w.committer.slots); n != 0 {
		w.t.Errorf("%s: %d slots are still taken", what, n)
	}
	if n := openFiles(w.t); n != descriptors {
		w.t.Errorf("%s: %d descriptors are open, %d before", what, n, descriptors)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		testenv.Missing(t, "/proc")
	}
	return len(entries)
}

// stepsOf counts the steps of a world without a fault.
func stepsOf(t *testing.T) int {
	steps := 0
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, inMemory(t), newLedger("q"), "boot")
		w.drive()
		w.judge("without a fault", true)
		if w.broke {
			t.Error("an error without a fault")
		}
		steps = w.disk.step
	})
	if steps < 100 {
		t.Fatalf("only %d steps: the world is too small", steps)
	}
	return steps
}

// P8.3: every call fails in turn, once and for ever, undone or done all the same.
func TestEveryFailingCallLeavesOnlyWhatIsRightAndIsRecoveredFrom(t *testing.T) {
	steps := stepsOf(t)
	for _, mode := range []struct {
		name    string
		is      verdict
		forever bool
		stride  int // a step in so many; every one of the first mode
	}{{"once", fails, false, 1}, {"once but done", applied, false, 2}, {"for ever", fails, true, 5}} {
		t.Run(mode.name, func(t *testing.T) {
			told := 0
			for n := 1; n <= steps; n += mode.stride * testenv.Cases(3, 1) {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("%s, step %d", mode.name, n)
					before := openFiles(t)
					w := begin(t, inMemory(t), newLedger("q"), "boot")
					healed := false
					w.disk.fault = func(step int, op string) verdict {
						if strings.HasPrefix(op, "ledger") || healed || step < n || w.disk.fired > 0 && !mode.forever {
							return passes
						}
						if w.disk.fired == 0 {
							what += " (" + op + ")"
						}
						return mode.is
					}
					w.drive()
					if mode.forever {
						w.judge(what, false)
						w.released(what, before)
						healed = true
						fault := w.disk.fault
						w = begin(t, w.dir, w.q, "boot")
						w.disk.fault = fault
						w.drive()
					} else if w.disk.fired == 0 && n <= steps/2 {
						t.Errorf("%s: never came", what)
					}
					w.judge(what, true)
					w.released(what, before)
					if w.broke {
						told++
					}
				})
			}
			if told == 0 && !mode.forever {
				t.Error("no fault was ever seen: the test proves nothing")
			}
		})
	}
}

// F02, F03: the process dies at every step, without and with the power.
func TestDeathAtEveryStepLosesNothingThatWasTold(t *testing.T) {
	steps := stepsOf(t)
	for stride, power := range map[int]bool{testenv.Cases(3, 1): true, testenv.Cases(9, 3): false} {
		t.Run(fmt.Sprint("power loss ", power), func(t *testing.T) {
			deaths := 0
			for n := 1; n <= steps; n += stride {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprint("died at step ", n)
					q := newLedger("q")
					w := begin(t, inMemory(t), q, "boot")
					q.broken = errDead
					w.disk.fault = func(step int, op string) verdict {
						if step == n {
							what += " (" + op + ")"
							return dies
						}
						return passes
					}
					w.drive()
					if w.disk.fired == 0 {
						return // another order of steps was shorter
					}
					deaths++
					boot := "boot"
					if power {
						boot = "another boot"
						w.disk.powerLoss(rand.New(rand.NewPCG(uint64(n), 7)))
					}
					w = begin(t, w.dir, q, boot)
					verified := 0
					for key := range w.bodies {
						if q.state(key) == run.AssetVerified {
							verified++
						}
					}
					again := q.count("again")
					w.judge(what+", before the restart", false)
					w.drive()
					w.judge(what, true)
					if verified > 0 && q.count("again") != again {
						t.Errorf("%s: a verified asset had to be fetched again: %v", what, q.reasons)
					}
				})
			}
			if deaths < steps/stride/2 {
				t.Errorf("only %d deaths in %d steps", deaths, steps)
			}
		})
	}
}

// P8.5: worlds with a step left out must be caught by the same judge.
func TestTheHarnessCatchesASkippedSync(t *testing.T) {
	for name, skip := range map[string]func(*calls){
		"files":       func(s *calls) { s.sync = func(*os.File) error { return nil } },
		"directories": func(s *calls) { s.syncDir = func(*os.File) error { return nil } },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := begin(t, inMemory(t), newLedger("q"), "boot")
			skip(&w.sys)
			w.sys.syncTold = false
			caught := 0
			w.q.stored = func(key run.Key, s run.Stored) {
				if w.disk.durable("app/run1/"+s.File, w.bodies[key]) != "" {
					caught++
				}
			}
			key := run.Key{Run: "run1", Kind: run.Images, ID: "a"}
			w.bodies = map[run.Key][]byte{key: w.bodies[key]}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			must(t, w.Check())
			if !w.round() || caught == 0 {
				t.Errorf("without syncing %s nothing was caught", name)
			}
			cancel()
			<-ended
		})
	}
}
