package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a queue of n runs, ids in order.
type shelf struct{ n int }

func (s shelf) id(i int) run.ID { return run.ID(fmt.Sprintf("run%06d", i)) }

func (s shelf) List(_ context.Context, state run.State, after run.ID, limit int) ([]run.Run, error) {
	var found []run.Run
	for i := range s.n {
		r := s.at(i)
		if r.ID > after && (state == "" || r.State == state) && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

func (s shelf) at(i int) run.Run {
	return run.Run{ID: s.id(i), State: []run.State{run.Waiting, run.StoredRun}[i%2], App: "app", Assets: 1, Stored: 1}
}

func (s shelf) Get(_ context.Context, id run.ID) (run.Run, error) {
	for i := range s.n {
		if s.id(i) == id {
			return s.at(i), nil
		}
	}
	return run.Run{}, run.ErrUnknown
}

func (s shelf) Assets(_ context.Context, id run.ID) ([]run.Asset, error) {
	return []run.Asset{{
		Key: run.Key{Run: id, Kind: run.Images, ID: "a"}, State: run.AssetStored, Source: "https://cdn/a.png",
		Stored: &run.Stored{File: "images/a.png", Size: 7, SHA256: "ff"},
	}}, nil
}

type checks struct{ sick []string }

func (c checks) Alive() server.Health { return server.Health{OK: true} }
func (c checks) Ready() server.Health { return server.Health{OK: len(c.sick) == 0, Reasons: c.sick} }

// busy is a daemon that is at one asset and cannot go on with the others.
type busy struct{ flying []server.Transfer }

func (b busy) InFlight() []server.Transfer  { return b.flying }
func (b busy) Held(r run.Run) []string      { return []string{string(r.ID) + " waits"} }
func (b busy) HeldAsset(key run.Key) string { return key.ID + " waits" }

func open(t *testing.T, d server.Deps) *server.Server {
	t.Helper()
	return server.New(d)
}

// serve runs a server until the test ends and returns a client of it.
func serve(t *testing.T, runs server.Runs, c server.Checks, flying ...server.Transfer) (*server.Client, string) {
	t.Helper()
	return serveDeps(t, server.Deps{Runs: runs, Checks: c, Now: busy{flying}})
}

func serveDeps(t *testing.T, d server.Deps) (*server.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	d.Path = path
	s := open(t, d)
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended: %v", err)
		}
	})
	return server.NewClient(path), path
}

func TestListGoesThroughAllPages(t *testing.T) {
	client, _ := serve(t, shelf{2500}, checks{})
	count, last := 0, run.ID("")
	err := client.Runs(t.Context(), server.Filter{}, "", func(r server.Run) error {
		if r.RunID <= last {
			return fmt.Errorf("%s after %s", r.RunID, last)
		}
		last = r.RunID
		count++
		return nil
	})
	if err != nil || count != 2500 {
		t.Errorf("%d runs, %v, want 2500", count, err)
	}
	count = 0
	if err := client.Runs(t.Context(), server.Filter{States: []run.State{run.StoredRun}}, "", func(server.Run) error { count++; return nil }); err != nil || count != 1250 {
		t.Errorf("%d stored runs, %v, want 1250", count, err)
	}
}

func TestListNamesAWrongState(t *testing.T) {
	client, _ := serve(t, shelf{1}, checks{})
	err := client.Runs(t.Context(), server.Filter{States: []run.State{"done"}}, "", func(server.Run) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `"done" is none of waiting`) {
		t.Errorf("error %v", err)
	}
}

func TestShowTellsAssetsAndUnknownRuns(t *testing.T) {
	client, _ := serve(t, shelf{1}, checks{})
	r, err := client.Run(t.Context(), "run000000")
	if err != nil || len(r.AssetList) != 1 || r.AssetList[0].File != "images/a.png" || r.Labels == nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := client.Run(t.Context(), "nope"); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("unknown run: %v", err)
	}
}

// half is a run of which one asset is stored and two are not.
type half struct{ shelf }

func (half) Get(_ context.Context, id run.ID) (run.Run, error) {
	return run.Run{ID: id, State: run.Downloading, Assets: 3, Stored: 1}, nil
}

func (h half) Assets(ctx context.Context, id run.ID) ([]run.Asset, error) {
	stored, err := h.shelf.Assets(ctx, id)
	for _, name := range []string{"b", "c"} {
		stored = append(stored, run.Asset{Key: run.Key{Run: id, Kind: run.Videos, ID: name}, State: run.AssetWaiting, Quarantine: "aside/" + name})
	}
	return stored, err
}

func TestShowTellsWhatIsInMemoryOnly(t *testing.T) {
	flying := []server.Transfer{
		{Key: run.Key{Run: "another", Kind: run.Videos, ID: "c"}, Received: 1},
		{Key: run.Key{Run: "half", Kind: run.Videos, ID: "b"}, Received: 10, Total: 40},
	}
	client, _ := serve(t, half{}, checks{}, flying...)
	got, err := client.Run(t.Context(), "half")
	if err != nil {
		t.Fatal(err)
	}
	want := []server.Asset{
		{Kind: run.Images, ID: "a", State: run.AssetStored, Source: "https://cdn/a.png", File: "images/a.png", Size: 7, SHA256: "ff"},
		{Kind: run.Videos, ID: "b", State: run.AssetDownloading, Received: 10, Total: 40, Aside: "aside/b"},
		{Kind: run.Videos, ID: "c", State: run.AssetWaiting, HeldUp: "c waits", Aside: "aside/c"},
	}
	if d := cmp.Diff(want, got.AssetList); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"half waits"}, got.HeldUp); d != "" {
		t.Error(d)
	}
}

func TestListTellsWhatHoldsRunsUp(t *testing.T) {
	client, _ := serve(t, shelf{3}, checks{})
	var got []string
	err := client.Runs(t.Context(), server.Filter{}, "run000000", func(r server.Run) error {
		got = append(got, r.HeldUp...)
		return nil
	})
	if d := cmp.Diff([]string{"run000001 waits", "run000002 waits"}, got); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestHealthCarriesItsReasons(t *testing.T) {
	client, _ := serve(t, shelf{}, checks{sick: []string{"volume offline"}})
	if h, err := client.Health(t.Context(), false); err != nil || !h.OK {
		t.Errorf("alive: %+v, %v", h, err)
	}
	if h, err := client.Health(t.Context(), true); err != nil || h.OK || len(h.Reasons) != 1 {
		t.Errorf("ready: %+v, %v", h, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if err := client.Wait(ctx); err == nil {
		t.Error("Wait took a daemon that is not ready")
	}
}

func TestTheSocketsModeIgnoresTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	_, path := serve(t, shelf{}, checks{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v, want 0660", info.Mode(), err)
	}
}

func TestASocketLeftByAKilledDaemonIsReplacedAndNothingElseIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	l, err := open(t, server.Deps{Path: path, Runs: shelf{}, Checks: checks{}, Now: busy{}}).Listen()
	if err != nil {
		t.Fatalf("over a dead socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := open(t, server.Deps{Path: path, Runs: shelf{}, Checks: checks{}, Now: busy{}}).Listen(); err == nil {
		l.Close()
		t.Error("a file at the socket's path was replaced")
	}
}

func TestAClientSaysThatNoDaemonRuns(t *testing.T) {
	client := server.NewClient(filepath.Join(t.TempDir(), "none"))
	if _, err := client.Health(t.Context(), false); !errors.Is(err, server.ErrNoDaemon) || errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
}

func TestASocketPathThatIsTooLongIsSaidToBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 108), "assetd.sock")
	want := fmt.Sprintf("socket %s: its path has %d bytes and a unix socket's at most 107: choose a shorter state.dir", path, len(path))
	if _, err := server.NewClient(path).Health(t.Context(), false); err == nil || err.Error() != want {
		t.Errorf("asking: %v\nwant %s", err, want)
	}
	if _, err := open(t, server.Deps{Path: path, Runs: shelf{}, Checks: checks{}, Now: busy{}}).Listen(); err == nil || err.Error() != want {
		t.Errorf("listening: %v\nwant %s", err, want)
	}
}

// risky is what people were warned of.
type risky []run.Key

func (r risky) AtRisk() []run.Key { return r }

// ask is what a handler without a socket answers.
func ask(t *testing.T, s *server.Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "localhost"
	s.Handler().ServeHTTP(w, r)
	return w
}

// crowd is many runs, each with a label that says whether its number is even, and of
// which every thousandth has an asset that is still to come.
type crowd struct{ n int }

func (c crowd) at(i int) run.Run {
	r := run.Run{ID: run.ID(fmt.Sprintf("run%06d", i)), State: run.StoredRun, App: "app", Labels: map[string]string{"even": fmt.Sprint(i%2 == 0)}}
	r.HandedIn = time.Unix(int64(i), 0).UTC()
	if i%1000 == 0 {
		r.State, r.Assets = run.Downloading, 1
	}
	return r
}

func (c crowd) List(_ context.Context, state run.State, after run.ID, limit int) (found []run.Run, err error) {
	for i := c.number(after) + 1; i < c.n && len(found) < limit; i++ {
		if r := c.at(i); state == "" || r.State == state {
			found = append(found, r)
		}
	}
	return found, nil
}

// number is the place of a run, -1 for one that is not there.
func (c crowd) number(id run.ID) int {
	n, err := strconv.Atoi(strings.TrimPrefix(string(id), "run"))
	if err != nil || n >= c.n {
		return -1
	}
	return n
}

func (c crowd) Get(_ context.Context, id run.ID) (run.Run, error) {
	if i := c.number(id); i >= 0 {
		return c.at(i), nil
	}
	return run.Run{}, run.ErrUnknown
}

func (c crowd) Assets(_ context.Context, id run.ID) ([]run.Asset, error) {
	return []run.Asset{
		{Key: run.Key{Run: id, Kind: run.Images, ID: "late"}, State: run.AssetWaiting, Expiry: time.Unix(2000, 0)},
		{Key: run.Key{Run: id, Kind: run.Images, ID: "soon"}, State: run.AssetWaiting, Expiry: time.Unix(1000, 0)},
		{Key: run.Key{Run: id, Kind: run.Images, ID: "home"}, State: run.AssetStored, Expiry: time.Unix(1, 0)},
		{Key: run.Key{Run: id, Kind: run.Images, ID: "what"}, State: run.AssetWaiting},
	}, nil
}

func TestAListIsFilteredByAllThatIsGiven(t *testing.T) {
	const n = 45_000 // more than one request looks at
	sock := filepath.Join(t.TempDir(), "s")
	s := open(t, server.Deps{Path: sock, Runs: crowd{n}, Checks: checks{}, Now: busy{}, Risks: risky{
		{Run: "run002000", Kind: run.Images, ID: "soon"},
		{Run: "run002000", Kind: run.Images, ID: "late"},
		{Run: "run000007", Kind: run.Images, ID: "x"},
		{Run: "removed", Kind: run.Images, ID: "x"},
	}})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	defer func() { stop(); <-done }()
	client := server.NewClient(sock)
	for name, c := range map[string]struct {
		filter server.Filter
		want   int
		first  run.ID
	}{
		"all":            {server.Filter{}, n, "run000000"},
		"a state":        {server.Filter{States: []run.State{run.Downloading}}, 45, "run000000"},
		"an app":         {server.Filter{Apps: []string{"app"}}, n, "run000000"},
		"another app":    {server.Filter{Apps: []string{"other"}}, 0, ""},
		"a label":        {server.Filter{Labels: map[string][]string{"even": {"false"}}}, n / 2, "run000001"},
		"another label":  {server.Filter{Labels: map[string][]string{"odd": {"true"}}}, 0, ""},
		"since":          {server.Filter{Since: time.Unix(n-10, 0)}, 10, "run044990"},
		"at risk":        {server.Filter{AtRisk: true}, 2, "run000007"},
		"risk and state": {server.Filter{AtRisk: true, States: []run.State{run.Downloading}}, 1, "run002000"},
	} {
		var got []server.Run
		if err := client.Runs(t.Context(), c.filter, "", func(r server.Run) error { got = append(got, r); return nil }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) != c.want || len(got) > 0 && got[0].RunID != c.first {
			t.Errorf("%s: %d runs, want %d from %s on", name, len(got), c.want, c.first)
		}
	}
}

func TestAListSaysWhenTheFirstURLDiesAndWhatIsAtRisk(t *testing.T) {
	s := open(t, server.Deps{Runs: crowd{3000}, Checks: checks{}, Now: busy{}, Risks: risky{{Run: "run001000", Kind: run.Images, ID: "soon"}}})
	var page server.Page
	if err := json.Unmarshal(ask(t, s, "/api/v1/runs?after=run000999&limit=2").Body.Bytes(), &page); err != nil || len(page.Runs) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	open, settled := page.Runs[0], page.Runs[1]
	if open.DiesAt == nil || !open.DiesAt.Equal(time.Unix(1000, 0)) || open.AtRisk != 1 || open.AssetList != nil {
		t.Errorf("open: %+v", open)
	}
	if settled.DiesAt != nil || settled.AtRisk != 0 {
		t.Errorf("settled: %+v", settled)
	}
	var shown server.Run
	if err := json.Unmarshal(ask(t, s, "/api/v1/runs/run001000").Body.Bytes(), &shown); err != nil {
		t.Fatal(err)
	}
	for _, a := range shown.AssetList {
		if a.AtRisk != (a.ID == "soon") {
			t.Errorf("asset %s: at risk %v", a.ID, a.AtRisk)
		}
	}
}

func TestAListNamesWhatIsWrongWithAFilter(t *testing.T) {
	s := open(t, server.Deps{Runs: crowd{}, Checks: checks{}, Now: busy{}})
	for query, want := range map[string]string{
		"state=done":              "is none of waiting",
		"since=yesterday":         "is no time like",
		"at_risk=maybe":           "is neither true nor false",
		"label=shot":              "is not written as NAME=VALUE",
		"label==x":                "is not written as NAME=VALUE",
		"limit=0":                 "is not a number from 1 to 1000",
		"stat=partial":            "is none of the parameters state, app",
		"damaged=some":            "damaged \\\"some\\\" is neither true nor false",
		"state=stored&state=done": "state \\\"done\\\" is none of waiting",
		"state=stored,done":       "state \\\"done\\\" is none of waiting",
		"since=2026-02-25T12:00:00Z&since=2026-02-26T12:00:00Z": "since is given 2 times",
		"limit=1&limit=2":           "limit is given 2 times",
		"damaged=true&damaged=true": "damaged is given 2 times",
	} {
		if w := ask(t, s, "/api/v1/runs?"+query); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}
