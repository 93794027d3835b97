package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is queue and volume in memory.
type world struct {
	mu       sync.Mutex
	runs     map[run.ID]run.Run
	assets   map[run.ID][]run.Asset
	answers  map[run.ID]run.Answer
	files    map[string]string // records and media, by path
	offline  bool
	failDirs map[string]error
	settled  []run.Settlement
	events   []run.Event
	again    []run.Change
	largest  int      // batch of records, in runs
	looks    int      // for runs that are ready
	onWrite  func()   // comes before records are written; nil: nothing does
	order    []string // names of records in the order they were written
}

var errQueueBroken = errors.New("queue broken")

func (w *world) Ready(_ context.Context, limit int) ([]run.ID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	var ids []run.ID
	for id, r := range w.runs {
		if r.Ended() && r.Open() == 0 && !r.State.Settled() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), limit)], nil
}

func (w *world) Get(_ context.Context, id run.ID) (run.Run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.runs[id]
	if !ok {
		return r, run.ErrUnknown
	}
	return r, nil
}

func (w *world) Assets(_ context.Context, id run.ID) ([]run.Asset, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]run.Asset(nil), w.assets[id]...), nil
}

func (w *world) Settle(_ context.Context, done []run.Settlement) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var refused []error
	for _, d := range done {
		r, ok := w.runs[d.Run]
		if !ok {
			refused = append(refused, run.ErrUnknown)
			continue
		}
		if r.Open() > 0 {
			refused = append(refused, run.ErrStale)
			continue
		}
		r.State, r.Revision = d.Outcome.State(), d.Revision
		w.runs[d.Run] = r
	}
	w.settled = append(w.settled, done...)
	return errors.Join(refused...)
}

func (w *world) Again(_ context.Context, key run.Key, _ string) (run.Asset, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range w.assets[key.Run] {
		if a.Key == key {
			w.assets[key.Run][i] = a.Again()
			r := w.runs[key.Run]
			r.Stored--
			w.runs[key.Run] = r
			return w.assets[key.Run][i], nil
		}
	}
	return run.Asset{}, run.ErrUnknown
}

func (w *world) Answer(id run.ID) (run.Answer, bool, error) {
	a, ok := w.answers[id]
	return a, ok, nil
}

func (w *world) Place(_ context.Context, id run.ID, wanted string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.runs[id]
	r.Dir = wanted
	w.runs[id] = r
	return wanted, nil
}

func (w *world) Adopt(_ context.Context, id run.ID, found []run.Adopted) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.runs[id]
	for _, f := range found {
		for i, a := range w.assets[id] {
			if a.Key == f.Key {
				w.assets[id][i].State, w.assets[id][i].Stored = run.AssetStored, &f.Stored
				r.Stored++
			}
		}
	}
	w.runs[id] = r
	return r.Open() == 0, nil
}

func (w *world) DirFor(r run.Run) string { return r.App + "/" + string(r.ID) }

func (w *world) ReadRecord(_ context.Context, dir, name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offline {
		return nil, run.ErrVolumeOffline
	}
	data, ok := w.files[dir+"/"+name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(data), nil
}

func (w *world) WriteRecords(_ context.Context, batch []run.Records) ([]error, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onWrite != nil {
		w.onWrite()
	}
	errs := make([]error, len(batch))
	w.largest = max(w.largest, len(batch))
	for i, b := range batch {
		if errs[i] = w.failDirs[b.Dir]; errs[i] != nil {
			continue
		}
		for _, f := range b.Files {
			var data strings.Builder
			if errs[i] = f.Write(&data); errs[i] != nil {
				break
			}
			w.files[b.Dir+"/"+f.Name] = data.String()
			w.order = append(w.order, f.Name)
		}
	}
	return errs, nil
}

func (w *world) Sizes(_ context.Context, dir string, files []string) (map[string]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offline {
		return nil, run.ErrVolumeOffline
	}
	sizes := map[string]int64{}
	for _, f := range files {
		if data, ok := w.files[dir+"/"+f]; ok {
			sizes[f] = int64(len(data))
		}
	}
	return sizes, nil
}

func (w *world) settler() *Settler {
	return New(Config{
		Queue: w, Ledger: w, Places: w, Volume: w, Now: time.Now,
		Tell: func(e run.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Again:  func(c run.Change) { w.again = append(w.again, c) },
		Done:   func(context.Context, []run.Key) {},
		Broken: func(err error) bool { return errors.Is(err, errQueueBroken) },
	})
}

// newWorld has one completed run with one stored image.
func newWorld() *world {
	key := run.Key{Run: "run1", Kind: run.Images, ID: "a"}
	return &world{
		runs: map[run.ID]run.Run{"run1": {
			ID: "run1", App: "app", State: run.Downloading, Status: run.Completed, EndedAt: time.Unix(1, 0),
			Assets: 1, Stored: 1, Bytes: 3, Dir: "app/run1", Labels: map[string]string{"shot": "12"},
		}},
		assets: map[run.ID][]run.Asset{"run1": {{
			Key: key, State: run.AssetStored, Index: 1, Source: "https://cdn/a.png",
			Stored: &run.Stored{File: "images/a.png", Size: 3, SHA256: "00ff", ContentType: "image/png"},
		}}},
		answers:  map[run.ID]run.Answer{},
		files:    map[string]string{"app/run1/images/a.png": "png"},
		failDirs: map[string]error{},
	}
}

// settleFor runs the settler for d of a bubble's time.
func (w *world) settleFor(t *testing.T, d time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := w.settler().Run(ctx); err != nil {
			t.Errorf("settler ended: %v", err)
		}
	})
}

func (w *world) manifest(t *testing.T, dir string) Manifest {
	t.Helper()
	m, err := Parse([]byte(w.files[dir+"/"+File]))
	if err != nil {
		t.Fatalf("manifest of %s: %v", dir, err)
	}
	return m
}

func TestASettledRunHasSumsThenManifestThenItsState(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	if d := cmp.Diff([]string{SumsFile, File}, w.order); d != "" {
		t.Errorf("order of records (-want +got):\n%s", d)
	}
	if got, want := w.files["app/run1/"+SumsFile], "00ff  images/a.png\n"; got != want {
		t.Errorf("sums %q, want %q", got, want)
	}
	m := w.manifest(t, "app/run1")
	if m.Outcome != run.OutcomeStored || m.Revision != 1 || len(m.Assets) != 1 || *m.Assets[0].File != "images/a.png" || m.Labels["shot"] != "12" {
		t.Errorf("manifest: %+v", m)
	}
	if w.runs["run1"].State != run.StoredRun {
		t.Errorf("state %q", w.runs["run1"].State)
	}
}

func TestARunWithoutAssetsGetsAManifestAndNoSums(t *testing.T) {
	w := newWorld()
	w.runs = map[run.ID]run.Run{"run2": {ID: "run2", App: "app", State: run.Waiting, Status: run.Cancelled, EndedAt: time.Unix(1, 0)}}
	w.settleFor(t, time.Second)
	m := w.manifest(t, "app/run2")
	if m.Outcome != run.OutcomeFailed || m.Assets == nil || len(m.Assets) != 0 || *m.Status != "cancelled" {
		t.Errorf("manifest: %+v", m)
	}
	if _, there := w.files["app/run2/"+SumsFile]; there {
		t.Error("SHA256SUMS where nothing was stored")
	}
	if w.runs["run2"].Dir != "app/run2" {
		t.Errorf("directory %q", w.runs["run2"].Dir)
	}
}

func TestAStoredFileThatIsGoneIsFetchedAgainInsteadOfSettled(t *testing.T) {
	for name, size := range map[string]string{"gone": "", "another size": "longer"} {
		w := newWorld()
		delete(w.files, "app/run1/images/a.png")
		if size != "" {
			w.files["app/run1/images/a.png"] = size
		}
		w.settleFor(t, time.Second)
		if len(w.settled) != 0 || len(w.again) != 1 || w.assets["run1"][0].State != run.AssetWaiting {
			t.Errorf("%s: settled %v, again %v, state %q", name, w.settled, w.again, w.assets["run1"][0].State)
		}
	}
}

func TestNothingSettlesWhileTheVolumeIsOffline(t *testing.T) {
	w := newWorld()
	w.offline = true
	w.settleFor(t, time.Minute)
	if len(w.settled) != 0 || len(w.order) != 0 {
		t.Fatalf("settled %v, wrote %v", w.settled, w.order)
	}
	w.offline = false
	w.settleFor(t, time.Second)
	if len(w.settled) != 1 {
		t.Fatal("not settled after the volume came back")
	}
}

func TestOneRunThatCannotBeWrittenHoldsUpNoOther(t *testing.T) {
	w := newWorld()
	w.runs["run2"] = run.Run{ID: "run2", App: "bad", State: run.Waiting, Status: run.Failed, EndedAt: time.Unix(1, 0), Dir: "bad/run2"}
	w.failDirs["bad/run2"] = errors.New("is a symbolic link")
	w.settleFor(t, 10*time.Second)
	if len(w.settled) != 1 || w.settled[0].Run != "run1" {
		t.Fatalf("settled %v, want run1 alone", w.settled)
	}
	told := 0
	for _, e := range w.events {
		if e.Kind == run.ManifestTrouble && e.Run == "run2" {
			told++
		}
	}
	if told < 2 || told > 5 {
		t.Errorf("trouble told %d times in 10 s, want a few, further and further apart", told)
	}
	delete(w.failDirs, "bad/run2")
	w.settleFor(t, 40*time.Second)
	if len(w.settled) != 2 {
		t.Error("not settled after its directory could be written")
	}
}

// A run that waits for its turn to be written and is not ready any more is forgotten:
// it wakes nobody and is no trouble, and the others settle as they would.
func TestCase_A23_RunsThatAreNotReadyAnyMoreAreForgotten(t *testing.T) {
	for name, change := range map[string]func(w *world, id run.ID){
		"removed": func(w *world, id run.ID) { delete(w.runs, id) },
		"settled": func(w *world, id run.ID) {
			r := w.runs[id]
			r.State = run.FailedRun
			w.runs[id] = r
		},
		"retried": func(w *world, id run.ID) {
			r := w.runs[id]
			r.State, r.EndedAt = run.Waiting, time.Time{}
			w.runs[id] = r
		},
		"an asset waits again": func(w *world, id run.ID) {
			r := w.runs[id]
			r.Assets = 1
			w.runs[id] = r
		},
	} {
		for _, many := range []int{1, 3 * batchSize} {
			for _, late := range []bool{false, true} { // while it is being written
				t.Run(fmt.Sprintf("%s, %d runs, late %v", name, many, late), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld()
						delete(w.runs, "run1")
						var ids []run.ID
						for i := range many {
							id := run.ID(fmt.Sprintf("bad-%04d", i))
							ids = append(ids, id)
							dir := "bad/" + string(id)
							w.runs[id] = run.Run{ID: id, App: "bad", State: run.Waiting, Status: run.Failed, EndedAt: time.Unix(1, 0), Dir: dir}
							w.failDirs[dir] = errors.New("not a directory")
						}
						s := w.settler()
						ctx, stop := context.WithCancel(t.Context())
						ended := make(chan error)
						go func() { ended <- s.Run(ctx) }()
						time.Sleep(10 * time.Second)
						w.mu.Lock()
						if all := func() {
							for _, id := range ids {
								change(w, id)
							}
						}; late {
							w.onWrite = all
						} else {
							all()
						}
						w.mu.Unlock()
						time.Sleep(5 * time.Minute)
						w.mu.Lock()
						looks, events := w.looks, len(w.events)
						w.runs["zzzz"] = run.Run{ID: "zzzz", State: run.Waiting, Status: run.Failed, EndedAt: time.Unix(1, 0), Dir: "good/zzzz"}
						w.mu.Unlock()
						s.Wake()
						time.Sleep(5 * time.Minute)
						stop()
						if err := <-ended; err != nil {
							t.Error(err)
						}
						if len(s.blocked) != 0 {
							t.Errorf("%d runs are kept", len(s.blocked))
						}
						if n := w.looks - looks; n > 15 {
							t.Errorf("looked %d times in 5 minutes", n)
						}
						for _, e := range w.events[events:] {
							if e.Kind == run.ManifestTrouble {
								t.Errorf("trouble of a run that is not ready: %s", e.Run)
							}
						}
						if len(w.settled) == 0 || w.settled[len(w.settled)-1].Run != "zzzz" {
							t.Errorf("the good run is not settled: %v", w.settled)
						}
					})
				})
			}
		}
	}
}

// A run that is removed while its manifest is being written neither delays nor
// troubles the others of its batch.
func TestCase_A23_ARunRemovedWhileItSettlesDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.runs["run2"] = run.Run{ID: "run2", State: run.Waiting, Status: run.Failed, EndedAt: time.Unix(1, 0), Dir: "good/run2"}
		once := sync.OnceFunc(func() { delete(w.runs, "run2") })
		w.onWrite = once
		s := w.settler()
		for i := range batchSize {
			id := run.ID(fmt.Sprintf("run3-%04d", i))
			w.runs[id] = run.Run{ID: id, State: run.Waiting, Status: run.Failed, EndedAt: time.Unix(1, 0), Dir: "good/" + string(id)}
		}
		begin := time.Now()
		for len(w.settled) < batchSize+1 && time.Since(begin) < time.Minute {
			more, err := s.settle(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !more && len(w.settled) < batchSize+1 {
				t.Fatalf("%d settled, nothing more to do", len(w.settled))
			}
		}
		for _, e := range w.events {
			if e.Kind == run.ManifestTrouble || e.Run == "run2" {
				t.Errorf("told: %+v", e)
			}
		}
	})
}

func TestAManifestThatStoodBeforeACrashIsNotWrittenTwice(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	r := w.runs["run1"]
	r.State, r.Revision = run.Downloading, 0 // as if the commit had not come
	w.runs["run1"] = r
	w.order = nil
	w.settleFor(t, time.Second)
	if len(w.order) != 0 || w.runs["run1"].Revision != 1 || w.runs["run1"].State != run.StoredRun {
		t.Errorf("wrote %v, run %+v", w.order, w.runs["run1"])
	}
}

func TestARetryRaisesTheRevision(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	r := w.runs["run1"]
	r.State = run.Downloading
	w.runs["run1"] = r
	w.settleFor(t, time.Second)
	if got := w.manifest(t, "app/run1").Revision; got != 2 {
		t.Errorf("revision %d, want 2", got)
	}
}

func TestANewManifestNeverNamesFewerStoredAssets(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	// A queue restored from a backup knows another asset, and this one as lost.
	r := w.runs["run1"]
	r.State, r.Stored, r.Lost, r.Assets = run.Downloading, 0, 1, 1
	w.runs["run1"] = r
	w.assets["run1"] = []run.Asset{{
		Key: run.Key{Run: "run1", Kind: run.Videos, ID: "v"}, State: run.AssetLost, Loss: &run.Loss{Reason: "gone"},
	}}
	w.settleFor(t, time.Second)
	m := w.manifest(t, "app/run1")
	if len(m.Assets) != 2 || m.Assets[1].File == nil || *m.Assets[1].File != "images/a.png" || m.Revision != 2 {
		t.Errorf("manifest: %+v", m)
	}
	if got := w.files["app/run1/"+SumsFile]; !strings.Contains(got, "images/a.png") {
		t.Errorf("sums %q", got)
	}
}

func TestARunHandedInAnewIsSettledFromItsManifest(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	w.order = nil
	w.runs["run1"] = run.Run{ID: "run1", App: "app", State: run.Downloading, Status: run.Completed, EndedAt: time.Unix(1, 0), Assets: 1}
	w.assets["run1"] = []run.Asset{{Key: run.Key{Run: "run1", Kind: run.Images, ID: "a"}, State: run.AssetWaiting}}
	adopted, err := w.settler().Prepare(t.Context(), "run1")
	if err != nil || !adopted {
		t.Fatalf("adopted %v, %v", adopted, err)
	}
	w.settleFor(t, time.Second)
	if len(w.order) != 0 || w.runs["run1"].State != run.StoredRun || w.assets["run1"][0].Stored.SHA256 != "00ff" {
		t.Errorf("wrote %v, run %+v", w.order, w.runs["run1"])
	}
}

func TestAnOldManifestIsNotTrustedWhenAFileIsMissing(t *testing.T) {
	w := newWorld()
	w.settleFor(t, time.Second)
	delete(w.files, "app/run1/images/a.png")
	w.runs["run1"] = run.Run{ID: "run1", App: "app", State: run.Downloading, Status: run.Completed, EndedAt: time.Unix(1, 0), Assets: 1}
	w.assets["run1"] = []run.Asset{{Key: run.Key{Run: "run1", Kind: run.Images, ID: "a"}, State: run.AssetWaiting}}
	if adopted, err := w.settler().Prepare(t.Context(), "run1"); err != nil || adopted {
		t.Fatalf("adopted %v, %v", adopted, err)
	}
	if got := w.runs["run1"].Dir; got != "app/run1" {
		t.Errorf("directory %q: its own manifest must not push it away", got)
	}
}

func TestADirectoryWithAnotherRunsManifestIsNotTaken(t *testing.T) {
	w := newWorld()
	w.files["app/run2/"+File] = `{"schema":"` + Schema + `","run_id":"RUN2"}`
	w.runs["run2"] = run.Run{ID: "run2", App: "app", State: run.Waiting}
	if _, err := w.settler().Prepare(t.Context(), "run2"); err != nil {
		t.Fatal(err)
	}
	if got := w.runs["run2"].Dir; !strings.HasPrefix(got, "app/run2-") {
		t.Errorf("directory %q", got)
	}
}

func TestABrokenQueueEndsTheSettler(t *testing.T) {
	w := newWorld()
	s := w.settler()
	s.Queue = brokenQueue{w}
	if err := s.Run(t.Context()); !errors.Is(err, errQueueBroken) {
		t.Errorf("ended with %v", err)
	}
}

type brokenQueue struct{ *world }

func (brokenQueue) Ready(context.Context, int) ([]run.ID, error) { return nil, errQueueBroken }

const secret = "exp=1~hmac=SECRET"

func TestAManifestHoldsNoSecretAndKeepsWhatItDoesNotKnow(t *testing.T) {
	url := "https://cdn/x.png?token=" + secret
	quoted, _ := json.Marshal(url)
	answer := run.Answer{
		Extra:   map[string]json.RawMessage{"status": json.RawMessage(`"mine"`), "nodes": json.RawMessage(`[{"u":` + string(quoted) + `,"n":12345678901234567890}]`), "assets": json.RawMessage("7")},
		Ignored: map[string]json.RawMessage{"models": json.RawMessage(`[{"url":` + string(quoted) + `}]`)},
		Assets:  []run.Listed{{Kind: run.Images, ID: "a", Extra: map[string]json.RawMessage{"seed": json.RawMessage("42"), url: json.RawMessage("1")}}},
	}
	r := run.Run{ID: "run1", Status: run.Failed, ErrorMessage: "see " + url, Labels: map[string]string{"from": url}, GaveUp: url}
	assets := []run.Asset{{
		Key: run.Key{Run: "run1", Kind: run.Images, ID: "a"}, State: run.AssetLost,
		Loss: &run.Loss{Reason: "403 for " + url}, Source: "https://cdn/x.png",
	}}
	var out strings.Builder
	if err := Build(r, assets, answer, 1, time.Unix(0, 0)).Write(&out); err != nil {
		t.Fatal(err)
	}
	data := out.String()
	if strings.Contains(data, "SECRET") {
		t.Errorf("the token is in the manifest:\n%s", data)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"api_status", "api_assets", "nodes", "ignored", "gave_up"} {
		if m[key] == nil {
			t.Errorf("%s is missing:\n%s", key, data)
		}
	}
	asset := m["assets"].([]any)[0].(map[string]any)
	if asset["seed"] != 42.0 || asset["file"] != nil || asset["sha256"] != nil || asset["error"] == nil || asset["lost_at"] == nil {
		t.Errorf("asset: %v", asset)
	}
	if !strings.Contains(data, "12345678901234567890") {
		t.Error("a large number lost digits")
	}
}
