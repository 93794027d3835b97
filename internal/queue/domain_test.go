package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/testenv"
)

func TestAHundredThousandRunsAreTakenInAFewCommits(t *testing.T) {
	testenv.Long(t)
	told := 0
	q := opened(t, quick(t), Options{Tell: func(e run.Event) {
		if e.Kind == run.RunAccepted && e.Run != "" {
			told++
		}
	}})
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
	due, next, err := q.Due(t.Context(), noon(), run.Turns{}, 100)
	if err != nil || len(due) != mostNew+100 || !next.Equal(noon()) { // of the newest submission, and of all
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

// What can never be taken holds up nothing that was handed in with it.
func TestCase_A14_AddTakesTheGoodAndNamesWhatItRefusesForGood(t *testing.T) {
	for name, c := range map[string]struct {
		bad      run.HandIn
		known    map[string]string // labels that the run has
		notTaken bool
		reason   string
	}{
		"no ID":             {bad: run.HandIn{ID: "a b c"}, notTaken: true, reason: "no run ID"},
		"empty ID":          {bad: run.HandIn{}, notTaken: true, reason: "no run ID"},
		"endless ID":        {bad: run.HandIn{ID: run.ID(strings.Repeat("x", 70_000))}, notTaken: true, reason: "no run ID"},
		"not UTF-8":         {bad: run.HandIn{ID: "abc\xff"}, notTaken: true, reason: "no run ID"},
		"17 KiB of labels":  {bad: run.HandIn{ID: "bad1", Labels: labels(17 << 10)}, reason: "at most 16384"},
		"many labels":       {bad: run.HandIn{ID: "bad1", Labels: labels(run.MaxLabels + 1)}, reason: "65 labels"},
		"long value":        {bad: run.HandIn{ID: "bad1", Labels: map[string]string{"l": strings.Repeat("x", 1025)}}, reason: "1025 bytes"},
		"long name":         {bad: run.HandIn{ID: "bad1", Labels: map[string]string{strings.Repeat("x", 40_000): "l"}}, reason: "40000 bytes"},
		"no name":           {bad: run.HandIn{ID: "bad1", Labels: map[string]string{"": "l"}}, reason: "no name"},
		"too many together": {bad: run.HandIn{ID: "bad1", Labels: map[string]string{"last": "one"}}, known: labels(run.MaxLabels), reason: "with those it has"},
	} {
		t.Run(name, func(t *testing.T) {
			q := fresh(t)
			if c.known != nil {
				if taken, err := q.Add(t.Context(), []run.HandIn{{ID: c.bad.ID, Labels: c.known}}); err != nil || taken.Refused != nil {
					t.Fatalf("%+v, %v", taken, err)
				}
			}
			taken, err := q.Add(t.Context(), []run.HandIn{{ID: "zzzz"}, c.bad, {ID: "aaaa"}})
			if err != nil || len(taken.Refused) != 1 {
				t.Fatalf("%+v, %v", taken, err)
			}
			got := taken.Refused[0]
			if got.At != 1 || got.NotTaken != c.notTaken || !strings.Contains(got.Reason, c.reason) || len(got.Reason) > 200 {
				t.Errorf("%+v", got)
			}
			for id, want := range map[run.ID]bool{"aaaa": true, "zzzz": true, c.bad.ID: !c.notTaken} {
				r, err := q.Get(t.Context(), id)
				if want != (err == nil) || id == c.bad.ID && len(r.Labels) != len(c.known) {
					t.Errorf("%.10s: %d labels, %v", id, len(r.Labels), err)
				}
			}
		})
	}
}

// labels is labels of so many bytes in all; up to run.MaxLabels+1, of so many labels.
func labels(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("%04d", i)
		if n <= run.MaxLabels+1 {
			all[name] = "v"
			continue
		}
		left := n - i*1000
		if left <= 0 {
			break
		}
		all[name] = strings.Repeat("x", min(1000, left)-len(name))
	}
	return all
}

func TestDueTellsWhenTheNextOneIs(t *testing.T) {
	q := fresh(t)
	if due, next, err := q.Due(t.Context(), noon(), run.Turns{}, 9); err != nil || len(due) != 0 || !next.IsZero() {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	add(t, q, "soon", "later", "never")
	later := noon().Add(time.Minute)
	if err := errors.Join(q.Reschedule(t.Context(), "later", later), q.Reschedule(t.Context(), "never", time.Time{})); err != nil {
		t.Fatal(err)
	}
	due, next, err := q.Due(t.Context(), noon(), run.Turns{}, 9)
	if err != nil || len(due) != 1 || due[0].ID != "soon" || !next.Equal(later) {
		t.Errorf("%v, %v, %v", due, next, err)
	}
	// One that was never asked for is due at once, also where the clock was set back.
	if due, next, err = q.Due(t.Context(), noon().Add(-time.Millisecond), run.Turns{}, 9); err != nil || len(due) != 1 || due[0].ID != "soon" || !next.Equal(later) {
		t.Errorf("%v, %v, %v", due, next, err)
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
	err = q.view(t.Context(), func(tx *txn) error {
		k, _ := tx.tx.Cursor(bHistory).First()
		if ms, id, _ := untimed(k); ms != noon().UnixMilli() || string(id) != "good" {
			t.Errorf("history begins with %q", k)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
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
	err3 := q.Settle(t.Context(), []run.Settlement{{Run: "abcd", Outcome: run.OutcomeStored, Revision: 3, At: noon()}})
	damaged := c.Assets[0].Key
	err4 := q.Mark(t.Context(), "abcd", 3, []run.Finding{{Key: damaged, Damage: "other bytes"}})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if r := must(q.Get(t.Context(), "abcd"))(t); r.Marked != 1 || !r.Repairable() {
		t.Errorf("marked: %+v", r)
	}
	if err := q.Retry(t.Context(), "abcd", map[run.Key]string{damaged: "aside/x"}); err != nil {
		t.Fatal(err)
	}
	r := must(q.Get(t.Context(), "abcd"))(t)
	a := must(q.Assets(t.Context(), "abcd"))(t)
	if r.State != run.Waiting || r.Revision != 3 || r.Stored != 1 || r.Marked != 0 || r.Ended() || a[0].State != run.AssetWaiting || a[0].Marked || a[0].Quarantine != "aside/x" || a[1].State != run.AssetStored {
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

func TestWhatIsTakenForHarmlessIs(t *testing.T) {
	word := rapid.SampledFrom([]string{
		"https://", "HTTP://", "cdn.example", "user", ":", ":443", "secret", "/", "//", "\\/\\/", "?", "#", "@", "%3a%2f%2f", "%3F",
		"token", "=", "hmac", "_", "abc", " ", "\"", "\\u003f", "data:", "\n", "sig",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(word, 0, 12).Draw(t, "words"), "")
		if harmless(text) && signedurl.Redact(text) != text {
			t.Fatalf("%q: %q", text, signedurl.Redact(text))
		}
	})
	for text, want := range map[string]bool{
		"https://pikaso.cdnpk.net/private/render.png": true, "2026-02-25T12:02:00.000Z": true, "text-to-image": true,
		"https://cdn.example/?token": false, "https://user:secret/": false, "hmac_abc": false,
	} {
		if harmless(text) != want {
			t.Errorf("%q", text)
		}
	}
}
