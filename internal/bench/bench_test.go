package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary is the simulator's process, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveArgument {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAPeerWhichStoredNothingHasNoTime(t *testing.T) {
	s, err := startServer(t.Context(), "cut")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	b := &bench{dir: t.TempDir(), progress: io.Discard}
	idler := peer("true", func(string, []asset) []string { return []string{"a list"} })
	var judged error
	o, err := b.once(t.Context(), idler, s, func(o outcome) error {
		assets, err := s.assets()
		if err == nil {
			judged = complete(o, assets)
		}
		return err
	})
	if err != nil || o.took <= 0 || o.begun.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
	if judged == nil {
		t.Error("passes for all of the work")
	}
	if p, err := s.polls(); err != nil || p.Count != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := s.ask("nonsense", new(int)); err == nil {
		t.Error("an answer to a question that there is not")
	}
}

func TestWhatIsLeftHasNoSizeUnlessItIsKept(t *testing.T) {
	b := &bench{dir: t.TempDir(), progress: io.Discard}
	for _, b.keep = range []bool{true, false} {
		dir, leave, err := b.scratch()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "a")
		if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		leave()
		if info, err := os.Stat(path); err != nil || (info.Size() > 0) != b.keep {
			t.Errorf("keep %v: %v, %v", b.keep, info, err)
		}
	}
}

func TestSpreadIsMedianAndExtremes(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
	if got := ratios([]float64{1, 6}, []float64{2, 3}); !slices.Equal(got, []float64{0.5, 2}) {
		t.Errorf("ratios %v", got)
	}
}

func TestGoalsAreJudgedByTheMedianOrTheWorstRound(t *testing.T) {
	s := spread{Median: 5, Min: 1, Max: 9}
	for _, c := range []struct {
		goal goal
		want string
	}{
		{atMost(5, ""), met},
		{atMost(4.9, ""), missed},
		{atLeast(5, ""), met},
		{atLeast(5.1, ""), missed},
		{atMost(9, "").always(), met},
		{atMost(8.9, "").always(), missed},
		{atLeast(1, "").always(), met},
		{atLeast(1.1, "").always(), missed},
	} {
		if got := c.goal.judge(s); got != c.want {
			t.Errorf("%v, worst %v: %s, want %s", c.goal, c.goal.worst, got, c.want)
		}
	}
	if got := atLeast(50_000, "a second").String(); got != "≥ 50,000 a second" {
		t.Error(got)
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.126: "0.13", 1.15: "1.15", 16: "16", 48.25: "48.2", 200: "200", 267.4: "267", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestTheTablesAreMarkdown(t *testing.T) {
	f := spread{1.5, 1.25, 2}
	rows := []row{
		{Name: "images", Work: "5,000 images", Goal: atMost(1, "x curl's time"), Figure: &f, Verdict: missed, Contenders: []result{
			{Name: "assetd", Installed: true, Seconds: f, PeakMiB: 38.2, CPU: spread{4, 4, 4}, Saved: &spread{3, 3, 3}, Saveable: &spread{4, 4, 4}},
			{Name: "curl"},
		}},
		{Name: "large", Work: "1 video", Goal: atMost(1.15, "x"), Verdict: failed, Note: "a | pipe\nand a line"},
	}
	var out bytes.Buffer
	if err := printTables(&out, "a machine", rows); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(out.String(), "\n\n")
	const want = `
|        | work         | goal              | median | spread | verdict                     |
|--------|--------------|-------------------|--------|--------|-----------------------------|
| images | 5,000 images | ≤ 1 x curl's time | 1.50   | 1.25–2 | missed                      |
| large  | 1 video      | ≤ 1.15 x          |        |        | failed: a / pipe and a line |

|        | contender | seconds       | spread | of it sync | peak MiB | CPU seconds | saved  |
|--------|-----------|---------------|--------|------------|----------|-------------|--------|
| images | assetd    | 1.50          | 1.25–2 | 0          | 38.2     | 4           | 3 of 4 |
| images | curl      | not installed |        |            |          |             |        |
`
	if diff := cmp.Diff(want, "\n"+got); diff != "" {
		t.Error(diff)
	}
}

func TestTheExitCodeTellsWhatWasMissedAndWhatFailed(t *testing.T) {
	for _, c := range []struct {
		verdicts []string
		hold     bool
		want     int
	}{
		{[]string{met, missed, unpaired}, false, exitDone},
		{[]string{met, failed}, false, exitFailed},
		{[]string{met, met}, true, exitDone},
		{[]string{met, missed}, true, exitFailed},
		{[]string{unpaired}, true, exitFailed},
	} {
		var rows []row
		for _, v := range c.verdicts {
			rows = append(rows, row{Verdict: v})
		}
		if got := verdict(rows, c.hold); got != c.want {
			t.Errorf("%v, hold %v: %d, want %d", c.verdicts, c.hold, got, c.want)
		}
	}
}

func TestMetricsOfABenchmarkAreRead(t *testing.T) {
	const out = `goos: linux
BenchmarkOther-2   	       1	         5 ns/op	 7.0 added/s
BenchmarkAMillionPendingRuns-2   	       1	63365344704 ns/op	       267.2 anon-MiB	     28263 added/s
PASS
`
	want := map[string]float64{"ns/op": 63365344704, "anon-MiB": 267.2, "added/s": 28263}
	if diff := cmp.Diff(want, metrics([]byte(out), "BenchmarkAMillionPendingRuns")); diff != "" {
		t.Error(diff)
	}
}

func TestProcFilesAreRead(t *testing.T) {
	if n, err := statusField([]byte("Name:\tassetd\nVmPeak:\t  999 kB\nVmHWM:\t   39116 kB\n"), "VmHWM"); err != nil || n != 39116<<10 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := statusField([]byte("Name:\tassetd\n"), "VmHWM"); err == nil {
		t.Error("no VmHWM, and no error")
	}
	stat := "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 8 0 1000 1 2"
	if d, err := statTime(stat); err != nil || d != 1750*time.Millisecond {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := statTime("42 (a) S 1"); err == nil {
		t.Error("a short stat, and no error")
	}
}

func TestTheMachinesBusyTimeIsWhatIsNotIdle(t *testing.T) {
	const stat = "cpu  100 1 20 5000 300 4 5 6 70 8\ncpu0 1 2 3 4\n"
	if got, want := statBusy(stat), 1360*time.Millisecond; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if share := newQuiet().others(); share < 0 {
		t.Errorf("others took %v of the machine", share)
	}
}

func TestThePeakIsThatOfTheProcess(t *testing.T) {
	stop := watch(os.Getpid(), peakResident)
	if n := stop(); n < mib {
		t.Errorf("a peak of %d bytes", n)
	}
}

func TestThePossibleIsWhatBruteForceFinds(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(1000, 0)
	for range 2000 {
		all := make([]job, 1+dice.IntN(9))
		for i := range all {
			all[i] = job{1 + dice.Int64N(50), begin.Add(time.Duration(1+dice.IntN(12)) * time.Second)}
		}
		if got, want := possible(all, begin, 10), brute(all, begin, 10); got != want {
			t.Fatalf("%v: %d, want %d", all, got, want)
		}
	}
}

// brute tries every set of jobs, each in the order of the due times.
func brute(all []job, begin time.Time, rate int64) (most int) {
	slices.SortFunc(all, func(a, b job) int { return a.due.Compare(b.due) })
	for set := range 1 << len(all) {
		n, total, late := 0, int64(0), false
		for i, j := range all {
			if set&(1<<i) != 0 {
				n, total = n+1, total+j.size
				late = late || total > rate*int64(j.due.Sub(begin)/time.Second)
			}
		}
		if !late {
			most = max(most, n)
		}
	}
	return most
}

func TestOnlyWholeFilesUnderVisibleNamesCount(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	assets := []asset{
		{Size: 5, SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}, // hello
		{Size: 5, SHA256: "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"}, // world
	}
	put("run/images/a.png", "hello")
	put(".hidden/parts/b.part", "world")
	put("run/.b.png", "world")
	put("run/images/b.png", "worle")
	put("run/images/c.png", "wor")
	if n, err := saved(dir, assets); err != nil || n != 1 {
		t.Errorf("%d, %v: want the one that is whole and visible", n, err)
	}
	if err := complete(outcome{files: dir}, assets); err == nil {
		t.Error("one of two passes for all of the work")
	}
	put("run/images/b.png", "world")
	if err := complete(outcome{files: dir}, assets); err != nil {
		t.Error(err)
	}
}

func TestContendersTakeTurnsInAlternatingOrder(t *testing.T) {
	b := &bench{rounds: 3, progress: io.Discard}
	var order []string
	field := []contender{{name: "a"}, {name: "b"}, {name: "absent", program: "no-such-program-here"}}
	outcomes, err := b.turns(field, func(c contender) (outcome, error) {
		order = append(order, c.name)
		return outcome{took: time.Second}, nil
	})
	if err != nil || strings.Join(order, " ") != "a b b a a b" {
		t.Errorf("%v, %v", order, err)
	}
	r := race{name: "r", goal: atMost(1, "x"), peers: field[2:]}
	rows := r.rows(field, map[string][]outcome{"assetd": outcomes["a"]})
	if rows[0].Verdict != unpaired || rows[0].Figure != nil || !strings.Contains(rows[0].Note, "absent is not installed") {
		t.Errorf("%+v", rows[0])
	}
}

func TestNamesChooseMeasurements(t *testing.T) {
	if chosen, err := choose([]string{"videos", "idle"}); err != nil || len(chosen) != 2 || chosen[0].name != "videos" || chosen[1].name != "idle" {
		t.Errorf("%v, %v", chosen, err)
	}
	if _, err := choose([]string{"vidoes"}); err == nil || !strings.Contains(err.Error(), "images, videos, large") {
		t.Errorf("%v", err)
	}
	names := map[string]bool{}
	for _, m := range all() {
		if names[m.name] {
			t.Errorf("%s twice", m.name)
		}
		names[m.name] = true
	}
}

func TestTheCommandLineIsRefusedBeforeAnythingIsDone(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-unknown"}, {"no-such-measurement"}} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != exitUsage || out.Len() > 0 || errs.Len() == 0 {
			t.Errorf("%v: exit %d, %q, %q", args, code, &out, &errs)
		}
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"-list"}, &out, &errs); code != exitDone || strings.Count(out.String(), "\n") != len(all()) {
		t.Errorf("exit %d, %q, %q", code, &out, &errs)
	}
}

// The scarce world is what its row says.
func TestTheScarceWorldHasTwiceTheBytesThatTheLinkMoves(t *testing.T) {
	var out bytes.Buffer
	if err := serve("cut", strings.NewReader(askAssets+"\n"+askPolls+"\n"), &out); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(&out)
	var o opening
	var assets []asset
	var p polls
	for _, into := range []any{&o, &assets, &p} {
		if err := answers.Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	begin := time.Now()
	for _, a := range assets {
		total += a.Size
		if life := a.Expiry.Sub(begin); life > scarceLife || life < scarceFirst-2*time.Second {
			t.Errorf("a life of %v", life)
		}
	}
	if total < scarceBytes || total > scarceBytes+scarceEach*scarceMost {
		t.Errorf("%d bytes, want %d and a run's more at most", total, int64(scarceBytes))
	}
	most := possible(jobs(assets), begin, scarceRate)
	if most >= len(assets) || most < len(assets)/2 {
		t.Errorf("%d of %d can be saved: nothing to choose", most, len(assets))
	}
	if len(o.Runs)*scarceEach != len(assets) || o.API == "" || o.Key == "" || p.Count != 0 || !p.First.IsZero() {
		t.Errorf("%+v, %+v", o, p)
	}
}
