package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestAHundredThousandRunsAreTakenInAFewCommits(t *testing.T) {
	told := 0
	q := opened(t, quick(t), Options{Tell: func(e run.Event) {
		if e.Kind == run.RunAccepted && e.Run != "" {
			told++
		}
	}})
	q.db.StrictMode = false // each check walks all of it
	in := make([]run.HandIn, 100_000)
	for i := range in {
		in[i].ID = run.ID(fmt.Sprintf("%08x", uint32(i)*2654435761))
	}
	in[99_999].ID = in[0].ID
	before := commits(t, q)
	taken, err := q.Add(t.Context(), in)
	if err != nil || taken.New != 99_999 || taken.Known != 1 || told != 99_999 {
		t.Fatalf("%+v, told %d, %v", taken, told, err)
	}
	if n := commits(t, q) - before; n > 10 {
		t.Errorf("%d commits", n)
	}
	before = commits(t, q)
	taken, err = q.Add(t.Context(), in)
	if err != nil || taken.New != 0 || taken.Known != 100_000 || told != 99_999 || commits(t, q) != before {
		t.Errorf("%+v, told %d, %d commits, %v", taken, told, commits(t, q)-before, err)
	}
	due, next, err := q.Due(t.Context(), noon(), 100)
	if err != nil || len(due) != 100 || !next.Equal(noon()) {
		t.Errorf("%d due, next %v, %v", len(due), next, err)
	}
	partial, err := q.List(t.Context(), run.PartialRun, "", 10) // looks at all, in several transactions
	if err != nil || len(partial) != 0 {
		t.Errorf("%v, %v", partial, err)
	}
	last := run.ID("")
	for n := 0; ; n++ {
		page, err := q.List(t.Context(), run.Waiting, last, 9_000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			if n != 12 {
				t.Errorf("%d pages", n)
			}
			break
		}
		if page[0].ID <= last {
			t.Fatalf("%q after %q", page[0].ID, last)
		}
		last = page[len(page)-1].ID
	}
}

func TestNothingIsTakenOfABadCall(t *testing.T) {
	q := fresh(t)
	for _, bad := range []run.HandIn{
		{ID: "a b c"},
		{ID: "abcde", Labels: map[string]string{"l": strings.Repeat("x", MaxLabels)}},
	} {
		if taken, err := q.Add(t.Context(), []run.HandIn{{ID: "good"}, bad}); err == nil || taken.New != 0 {
			t.Errorf("%+v, %v", taken, err)
		}
	}
	if _, err := q.Get(t.Context(), "good"); !errors.Is(err, run.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestDueTellsWhenTheNextOneIs(t *testing.T) {
	q := fresh(t)
	if due, next, err := q.Due(t.Context(), noon(), 9); err != nil || len(due) != 0 || !next.IsZero() {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	add(t, q, "soon", "later", "never")
	later := noon().Add(time.Minute)
	if err := errors.Join(q.Reschedule(t.Context(), "later", later), q.Reschedule(t.Context(), "never", time.Time{})); err != nil {
		t.Fatal(err)
	}
	due, next, err := q.Due(t.Context(), noon(), 9)
	if err != nil || len(due) != 1 || due[0].ID != "soon" || !next.Equal(later) {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	if due, next, err = q.Due(t.Context(), noon().Add(-time.Millisecond), 9); err != nil || len(due) != 0 || !next.Equal(noon()) {
		t.Errorf("%v, %v, %v", due, next, err)
	}
}

func TestIndexesFollowTheFirstTerminalAnswer(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd")
	list := func(names ...string) (all []run.Listed) {
		for _, name := range names {
			kind, id, _ := strings.Cut(name, "/")
			all = append(all, run.Listed{Kind: run.Kind(kind), ID: id, URL: "https://cdn.example/" + id})
		}
		return all
	}
	indexes := func(v run.Verdict) map[string]int {
		t.Helper()
		v.At = noon()
		c, err := q.Answered(t.Context(), "abcd", v)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, a := range c.Assets {
			got[string(a.Key.Kind)+"/"+a.Key.ID] = a.Index
		}
		return got
	}
	early := indexes(run.Verdict{Answer: &run.Answer{Status: run.Running, Assets: list("images/early", "images/z")}})
	if want := map[string]int{"images/early": 0, "images/z": 0}; !cmp.Equal(early, want) {
		t.Errorf("before the end: %v", early)
	}
	ended := indexes(run.Verdict{Terminal: true, Answer: &run.Answer{Status: run.Completed, Assets: list("images/z", "videos/v", "images/a")}})
	if want := map[string]int{"images/z": 1, "images/a": 2, "images/early": 3, "videos/v": 1}; !cmp.Equal(ended, want) {
		t.Errorf("at the end: %v", ended)
	}
	after := indexes(run.Verdict{Terminal: true, Answer: &run.Answer{Status: run.Failed, Assets: list("images/0", "videos/0", "images/a")}})
	if want := map[string]int{"images/z": 1, "images/a": 2, "images/early": 3, "images/0": 4, "videos/v": 1, "videos/0": 2}; !cmp.Equal(after, want) {
		t.Errorf("after it: %v", after)
	}
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Status != run.Completed || r.State != run.Downloading {
		t.Errorf("%+v", r)
	}
	assets := must(q.Assets(t.Context(), "abcd"))(t)
	var order []string
	for _, a := range assets {
		order = append(order, a.Key.ID)
	}
	if want := []string{"z", "a", "early", "0", "v", "0"}; !slices.Equal(order, want) {
		t.Errorf("%q", order)
	}
}

func TestAVerdictWithTenThousandAssetsIsOneCommit(t *testing.T) {
	q := opened(t, quick(t), Options{})
	add(t, q, "abcd")
	before := commits(t, q)
	c, err := q.Answered(t.Context(), "abcd", run.Verdict{Answer: answerOf("abcd", 10_000), Terminal: true, At: noon()})
	if err != nil || len(c.Assets) != 10_000 || !c.Ended || c.Run.Open() != 10_000 || c.Assets[9_999].Index != 10_000 {
		t.Fatalf("%d assets of %+v, %v", len(c.Assets), c.Run, err)
	}
	if n := commits(t, q) - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	var batch []run.Named
	var keys []run.Key
	for _, a := range c.Assets {
		batch, keys = append(batch, named(a.Key)), append(keys, a.Key)
	}
	if _, err := q.Verified(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	ready, err := q.Stored(t.Context(), keys)
	if err != nil || !slices.Equal(ready, []run.ID{"abcd"}) {
		t.Errorf("%q, %v", ready, err)
	}
}

func TestAGivenUpRunThatEndsAfterAllIsJudgedByItsEnd(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd")
	given, err := q.Answered(t.Context(), "abcd", run.Verdict{GiveUp: "72 h", At: noon(), Service: time.Hour})
	if err != nil || !given.Ended || given.Run.GaveUp != "72 h" || given.Run.Judge() != run.OutcomeFailed {
		t.Fatalf("%+v, %v", given, err)
	}
	if ids, err := q.Ready(t.Context(), 9); err != nil || len(ids) != 1 {
		t.Errorf("%q, %v", ids, err)
	}
	c, err := q.Answered(t.Context(), "abcd", run.Verdict{
		Answer: answerOf("abcd", 1), Terminal: true, At: noon().Add(time.Hour), Service: 2 * time.Hour, GiveUp: "again",
	})
	if err != nil || !c.Ended || c.Run.GaveUp != "" || c.Run.Status != run.Completed || !c.Run.EndedAt.Equal(noon()) || c.Run.EndedService != time.Hour {
		t.Errorf("%+v, %v", c.Run, err)
	}
	if ids, err := q.Ready(t.Context(), 9); err != nil || len(ids) != 0 || c.Run.State != run.Downloading {
		t.Errorf("%q, %v, %s", ids, err, c.Run.State)
	}
}

func TestNamesAreUniqueWithoutRegardToCase(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd", "other")
	verify := func(id run.ID, asset, file string) error {
		t.Helper()
		k := run.Key{Run: id, Kind: run.Images, ID: asset}
		refused, err := q.Verified(t.Context(), []run.Named{{Whole: run.Whole{Key: k, Size: 1, At: noon()}, File: file}})
		if err != nil {
			t.Fatal(err)
		}
		return refused[0]
	}
	for _, id := range []run.ID{"abcd", "other"} {
		if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, 9), At: noon()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify("abcd", "0", "images/Kelvin.png"); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"images/Kelvin.png", "IMAGES/kelvin.PNG", "images/\u212aelvin.png", "manifest.json", "Manifest.JSON", "SHA256SUMS"} {
		if err := verify("abcd", "1", file); !errors.Is(err, run.ErrNameTaken) {
			t.Errorf("%q: %v", file, err)
		}
	}
	for _, file := range []string{"", ".", "/abs", "../up", "a//b", strings.Repeat("x", 5000)} {
		if err := verify("abcd", "1", file); err == nil || errors.Is(err, run.ErrNameTaken) {
			t.Errorf("%q: %v", file, err)
		}
	}
	if err := verify("other", "0", "images/Kelvin.png"); err != nil {
		t.Errorf("in another run: %v", err)
	}
	if _, err := q.Again(t.Context(), run.Key{Run: "abcd", Kind: run.Images, ID: "0"}, "neither part nor file"); err != nil {
		t.Error(err)
	}
	if err := verify("abcd", "1", "images/kelvin.png"); err != nil {
		t.Errorf("freed: %v", err)
	}
	k := run.Key{Run: "abcd", Kind: run.Images, ID: "2"}
	twice, err := q.Verified(t.Context(), []run.Named{{Whole: run.Whole{Key: k}, File: "a"}, {Whole: run.Whole{Key: k}, File: "b"}, {File: "c"}})
	if err != nil || twice[0] != nil || !errors.Is(twice[1], run.ErrStale) || !errors.Is(twice[2], run.ErrUnknown) {
		t.Errorf("%v, %v", twice, err)
	}
}

func TestDirectoriesAreUniqueWithoutRegardToCase(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd", "ABCD", "AbCd")
	seen := map[string]bool{}
	for _, id := range []run.ID{"abcd", "ABCD", "AbCd"} {
		dir := must(q.Place(t.Context(), id, "app/"+string(id)))(t)
		if seen[strings.ToLower(dir)] || !strings.HasPrefix(dir, "app/"+string(id)) || !fs.ValidPath(dir) {
			t.Errorf("%q for %q", dir, id)
		}
		seen[strings.ToLower(dir)] = true
		if again := must(q.Place(t.Context(), id, "elsewhere"))(t); again != dir {
			t.Errorf("%q, then %q", dir, again)
		}
	}
	add(t, q, "efgh")
	for _, wanted := range []string{"", ".", "../x", "/x", strings.Repeat("x", 5000)} {
		if dir, err := q.Place(t.Context(), "efgh", wanted); err == nil {
			t.Errorf("%q for %q", dir, wanted)
		}
	}
}

func TestOneThatCannotBeSettledHoldsUpNoOther(t *testing.T) {
	q := fresh(t)
	add(t, q, "good", "open")
	for id, n := range map[run.ID]int{"good": 0, "open": 1} {
		if _, err := q.Answered(t.Context(), id, run.Verdict{Answer: answerOf(id, n), Terminal: true, At: noon()}); err != nil {
			t.Fatal(err)
		}
	}
	err := q.Settle(t.Context(), []run.Settlement{
		{Run: "open", Outcome: run.OutcomeStored, At: noon()},
		{Run: "unknown", Outcome: run.OutcomeStored, At: noon()},
		{Run: "good", Outcome: run.OutcomeStored, Revision: 1, At: noon()},
	})
	if !errors.Is(err, run.ErrStale) || !errors.Is(err, run.ErrUnknown) || !strings.Contains(err.Error(), `"open"`) {
		t.Errorf("%v", err)
	}
	if r := must(q.Get(t.Context(), "good"))(t); r.State != run.StoredRun || r.Revision != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWhatWasMarkedIsFetchedAnewByRetry(t *testing.T) {
	q := fresh(t)
	add(t, q, "abcd")
	c, err := q.Answered(t.Context(), "abcd", run.Verdict{Answer: answerOf("abcd", 2), Terminal: true, At: noon()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.Verified(t.Context(), []run.Named{named(c.Assets[0].Key), named(c.Assets[1].Key)})
	_, err2 := q.Stored(t.Context(), []run.Key{c.Assets[0].Key, c.Assets[1].Key})
	err3 := q.update(t.Context(), 1, func(t *txn) error {
		e, err := t.edit("abcd")
		if err != nil {
			return err
		}
		was, err := t.asset(c.Assets[0].Key)
		if err != nil {
			return err
		}
		marked := was
		marked.Marked = true
		return errors.Join(e.put(&was, &marked), e.save())
	})
	err4 := q.Settle(t.Context(), []run.Settlement{{Run: "abcd", Outcome: run.OutcomeStored, Revision: 3, At: noon()}})
	if err := errors.Join(err, err2, err3, err4, q.Retry(t.Context(), "abcd")); err != nil {
		t.Fatal(err)
	}
	r := must(q.Get(t.Context(), "abcd"))(t)
	a := must(q.Assets(t.Context(), "abcd"))(t)
	if r.State != run.Waiting || r.Revision != 3 || r.Stored != 1 || r.Ended() || a[0].State != run.AssetWaiting || a[0].Marked || a[1].State != run.AssetStored {
		t.Errorf("%+v, %+v", r, a)
	}
}

func TestNotesAreKept(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Options{})
	for _, noted := range []func(string) (bool, error){q.UsesVolume, q.Proven} {
		if yes, err := noted("/mnt/a"); yes || err != nil {
			t.Errorf("%v, %v", yes, err)
		}
	}
	if err := errors.Join(q.UseVolume(t.Context(), "/mnt/a"), q.Prove(t.Context(), "f00d"), q.Close()); err != nil {
		t.Fatal(err)
	}
	q = opened(t, dir, Options{})
	for name, want := range map[string]bool{"/mnt/a": true, "/mnt/b": false, "/mnt/A": false, "": false} {
		if yes, err := q.UsesVolume(name); yes != want || err != nil {
			t.Errorf("%q: %v, %v", name, yes, err)
		}
	}
	for name, want := range map[string]bool{"f00d": true, "/mnt/a": false} {
		if yes, err := q.Proven(name); yes != want || err != nil {
			t.Errorf("%q: %v, %v", name, yes, err)
		}
	}
}

// Freed pages keep what they held, so one look at the file says what was ever in it.
func TestNoTokenReachesTheFile(t *testing.T) {
	const secret = "S3CR3TT0K3N"
	url := "https://cdn.example/a.png?token=exp=1~hmac=" + secret
	q := fresh(t)
	ctx := t.Context()
	if _, err := q.Add(ctx, []run.HandIn{{ID: "abcd", Labels: map[string]string{"from": url}}}); err != nil {
		t.Fatal(err)
	}
	answer := run.Answer{
		Run: "abcd", App: url, Status: run.Status(url), StartedAt: url, CompletedAt: url, ErrorMessage: url,
		Assets: []run.Listed{
			{Kind: run.Images, ID: "1", URL: url, Source: url, Tool: url, CreatedAt: url},
			{Kind: run.Images, ID: "2", URL: url, Source: "https://cdn.example/a.png"},
		},
	}
	if err := q.SaveAnswer("abcd", answer); err != nil {
		t.Fatal(err)
	}
	c, err := q.Answered(ctx, "abcd", run.Verdict{Answer: &answer, Terminal: true, At: noon(), GiveUp: url, Polls: run.Polls{LastError: url}})
	if err != nil || strings.Contains(fmt.Sprintf("%+v", c), secret) {
		t.Errorf("%+v, %v", c, err)
	}
	one, two := c.Assets[0].Key, c.Assets[1].Key
	whole := named(one)
	whole.ContentType, whole.Warnings = url, []string{url}
	_, err = q.Tried(ctx, one, run.Trial{Error: url})
	_, err2 := q.Verified(ctx, []run.Named{whole})
	_, err3 := q.Again(ctx, one, url)
	_, err4 := q.Lose(ctx, two, run.Loss{Rule: run.LossTime, Reason: url, At: noon()})
	_, err5 := q.Adopt(ctx, "abcd", []run.Adopted{{Key: one, Stored: run.Stored{File: "f", ContentType: url, Warnings: []string{url}}}})
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(q.Path())
	if err != nil || bytes.Contains(file, []byte(secret)) || !bytes.Contains(file, []byte("https://cdn.example/a.png")) {
		t.Errorf("a token is in the file, or not even its URL is: %v", err)
	}
	if b, err := os.ReadFile(answerFile(q, "abcd")); err != nil || !bytes.Contains(b, []byte(secret)) {
		t.Errorf("the answer has no URL: %v", err)
	}
	if err := q.Settle(ctx, []run.Settlement{{Run: "abcd", Outcome: run.OutcomePartial, At: noon()}}); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(q.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("a token is in %s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
