package queuetest

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// machine drives a queue and its model side by side.
type machine struct {
	t      *testing.T
	engine Engine
	dir    string
	q      *queue.Queue
	m      *model
}

// modelled has the queue and its model do the same at random, and compares all that can
// be asked, and every index with the records, after each step.
func modelled(outer *testing.T, engine Engine) {
	dir := directory(outer)
	rapid.Check(outer, func(t *rapid.T) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		s := &machine{t: outer, engine: engine, dir: sub, m: &model{now: Noon(), runs: map[run.ID]*modelRun{}, hooks: run.AllHooks, stands: map[run.NoticeKind]bool{}}}
		s.open(t)
		defer func() { _ = s.q.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"": s.same, "add": s.add, "reschedule": s.reschedule, "answered": s.answered, "place": s.place,
			"tried": s.tried, "early": s.early, "verified": s.verified, "stored": s.stored, "again": s.again, "adopt": s.adopt,
			"hooks": s.hooks, "trouble": s.trouble, "told": s.told,
			"lose": s.lose, "settle": s.settle, "finish": s.finish, "retry": s.retry, "remove": s.remove, "reopen": s.reopen,
		})
	})
}

func (s *machine) open(t *rapid.T) {
	q, err := queue.New(s.engine(s.t, s.dir), answers.New(s.dir), queue.Options{Now: func() time.Time { return s.m.now }})
	if err != nil {
		t.Fatal(err)
	}
	q.SetHooks(s.m.hooks)
	s.q = q
}

func (s *machine) hooks(t *rapid.T) {
	s.m.hooks = run.Hooks(rapid.IntRange(0, 3).Draw(t, "hooks"))
	s.q.SetHooks(s.m.hooks)
}

func (s *machine) trouble(t *rapid.T) {
	kinds := []run.NoticeKind{run.NoRoomLeft, run.RoomAgain, run.VolumeGone, run.VolumeOnline, run.AssetsAtRisk}
	n := run.Notice{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), At: s.m.now, Text: "it says so"}
	expect(t, s.q.Post(context.Background(), n), nil)
	s.m.trouble(n)
}

// told has a hook take one of the notices, in any order.
func (s *machine) told(t *rapid.T) {
	hook := rapid.SampledFrom([]run.Hooks{run.CommandHook, run.URLHook}).Draw(t, "hook")
	found, err := s.q.Outbox(context.Background(), hook, 0, 99)
	expect(t, err, nil)
	if len(found) == 0 {
		return
	}
	n := rapid.IntRange(0, len(found)-1).Draw(t, "which")
	expect(t, s.q.Told(context.Background(), hook, []uint64{found[n].Seq, 1 << 40}), nil)
	for i := range s.m.outbox {
		w := &s.m.outbox[i]
		if w.to&hook == 0 {
			continue
		}
		if n--; n < 0 {
			w.to &^= hook
			break
		}
	}
}

func (s *machine) reopen(t *rapid.T) {
	if err := s.q.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t)
}

func anID() *rapid.Generator[run.ID] {
	return rapid.SampledFrom([]run.ID{"abcd", "ABCD", "abcde", "other-run"})
}

func aName() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "A", "b", "#2", "x/y", strings.Repeat("long", 20)})
}

func (s *machine) aKey(t *rapid.T) run.Key {
	var all []run.Key
	for _, r := range s.m.runs {
		for k := range r.assets {
			all = append(all, k)
		}
	}
	if len(all) > 0 && rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		slices.SortFunc(all, func(a, b run.Key) int { return strings.Compare(a.String(), b.String()) })
		return rapid.SampledFrom(all).Draw(t, "key")
	}
	return run.Key{Run: anID().Draw(t, "run"), Kind: rapid.SampledFrom(run.Kinds()).Draw(t, "kind"), ID: aName().Draw(t, "id")}
}

func aText() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", "went wrong", "GET https://cdn.example/x.png?token=exp=1~hmac=abc: 403", "token=exp_1~hmac_2"})
}

func (s *machine) aTime(t *rapid.T) time.Time {
	return s.m.now.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "hours")) * time.Hour)
}

func expect(t *rapid.T, got, want error) {
	t.Helper()
	if kind(got) != want {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func (s *machine) add(t *rapid.T) {
	in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) run.HandIn {
		labels := rapid.MapOfN(rapid.SampledFrom([]string{"shot", "take"}), rapid.SampledFrom([]string{"1", "2"}), 0, 2)
		return run.HandIn{ID: anID().Draw(t, "id"), Labels: labels.Draw(t, "labels")}
	}), 1, 3).Draw(t, "in")
	taken, err := s.q.Add(context.Background(), in)
	expect(t, err, nil)
	if diff := cmp.Diff(s.m.add(in), taken, cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
}

func (s *machine) reschedule(t *rapid.T) {
	id, at := anID().Draw(t, "id"), s.aTime(t)
	err := s.q.Reschedule(context.Background(), id, at)
	r := s.m.runs[id]
	if r == nil {
		expect(t, err, run.ErrUnknown)
		return
	}
	expect(t, err, nil)
	if !r.State.Settled() {
		r.due = at
	}
}

func (s *machine) answered(t *rapid.T) {
	id := anID().Draw(t, "id")
	v := run.Verdict{
		Polls:    run.Polls{Count: rapid.IntRange(0, 9).Draw(t, "polls"), LastError: aText().Draw(t, "error")},
		Unlisted: rapid.Bool().Draw(t, "unlisted"), At: s.aTime(t), Service: time.Duration(rapid.IntRange(0, 99).Draw(t, "service")),
	}
	if rapid.Bool().Draw(t, "next") {
		v.Next = s.aTime(t)
	}
	if rapid.IntRange(0, 4).Draw(t, "give up") == 0 {
		v.GiveUp = "no end in sight"
	}
	if rapid.IntRange(0, 4).Draw(t, "answer") > 0 {
		v.Terminal = rapid.Bool().Draw(t, "terminal")
		v.Answer = &run.Answer{
			Run: id, App: rapid.SampledFrom([]string{"", "app1", "app2"}).Draw(t, "app"),
			Status:       rapid.SampledFrom([]run.Status{run.Running, run.Completed, run.Failed, "new"}).Draw(t, "status"),
			ErrorMessage: aText().Draw(t, "message"), StartedAt: "2026-02-25T12:00:00.000Z",
			Assets: rapid.SliceOfN(rapid.Custom(s.listed), 0, 4).Draw(t, "assets"),
		}
	}
	got, err := s.q.Answered(context.Background(), id, v)
	want, wantErr := s.m.answered(id, v)
	expect(t, err, wantErr)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(run.Run{}, "Submission")); diff != "" {
		t.Fatal(diff)
	}
}

func (s *machine) listed(t *rapid.T) run.Listed {
	l := run.Listed{
		Kind: rapid.SampledFrom([]run.Kind{run.Images, run.Videos}).Draw(t, "kind"), ID: aName().Draw(t, "id"),
		Tool: rapid.SampledFrom([]string{"", "upscale"}).Draw(t, "tool"),
	}
	if rapid.IntRange(0, 4).Draw(t, "url") > 0 {
		l.Source = rapid.SampledFrom([]string{"https://cdn.example/1.png", "https://cdn.example/2.png"}).Draw(t, "source")
		l.URL = l.Source + "?token=secret"
		if rapid.Bool().Draw(t, "expires") {
			l.Expiry = s.aTime(t)
		}
	}
	return l
}

func (s *machine) place(t *rapid.T) {
	id := anID().Draw(t, "id")
	wanted := rapid.SampledFrom([]string{"app/run", "APP/run", "else"}).Draw(t, "wanted")
	dir, err := s.q.Place(context.Background(), id, wanted)
	expect(t, err, s.m.place(id, wanted))
	if err != nil {
		return
	}
	if r := s.m.runs[id]; r.Dir == "" { // another has it
		if !strings.HasPrefix(dir, wanted+"-") {
			t.Fatalf("%q for %q", dir, wanted)
		}
		r.Dir = dir
	} else if r.Dir != dir {
		t.Fatalf("%q, want %q", dir, r.Dir)
	}
}

func (s *machine) tried(t *rapid.T) {
	k := s.aKey(t)
	trial := run.Trial{
		Early: rapid.Bool().Draw(t, "early"), Final: rapid.Bool().Draw(t, "final"), Refused: rapid.Bool().Draw(t, "refused"), Error: aText().Draw(t, "error"), Service: time.Minute,
		Quarantine: rapid.SampledFrom([]string{"", "aside/1", "aside/2"}).Draw(t, "quarantine"),
	}
	a, err := s.q.Tried(context.Background(), k, trial)
	expect(t, err, s.m.tried(k, trial))
	if err == nil && !cmp.Equal(a, s.m.runs[k.Run].assets[k]) {
		t.Fatalf("%+v, want %+v", a, s.m.runs[k.Run].assets[k])
	}
}

func (s *machine) early(t *rapid.T) {
	k := s.aKey(t)
	url := rapid.SampledFrom([]string{"https://cdn.example/1.png", "https://cdn.example/2.png"}).Draw(t, "url")
	p := run.Provisional{
		Size: 7, SHA256: "def", Ext: ".png", ContentType: "image/png", DownloadedAt: s.m.now, Warnings: []string{"odd", "very"},
		Object: signedurl.Object(url), Preview: rapid.Bool().Draw(t, "preview"), Validator: `"e"`,
	}
	a, err := s.q.KeepProvisional(context.Background(), k, p)
	expect(t, err, s.m.keepProvisional(k, p))
	if err == nil && !cmp.Equal(a, s.m.runs[k.Run].assets[k]) {
		t.Fatalf("%+v, want %+v", a, s.m.runs[k.Run].assets[k])
	}
}

func (s *machine) verified(t *rapid.T) {
	batch := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) run.Named {
		size := rapid.Int64Range(1, 1000).Draw(t, "size")
		return run.Named{
			Whole: run.Whole{Key: s.aKey(t), Size: size, SHA256: "abc", At: s.m.now},
			File:  rapid.SampledFrom([]string{"images/a.png", "images/A.png", "videos/b.mp4", "images/c.png"}).Draw(t, "file"),
		}
	}), 1, 3).Draw(t, "batch")
	refused, err := s.q.Verified(context.Background(), batch)
	expect(t, err, nil)
	for i, n := range batch {
		expect(t, refused[i], s.m.verified(n))
	}
}

func (s *machine) stored(t *rapid.T) {
	keys := rapid.SliceOfN(rapid.Custom(s.aKey), 1, 3).Draw(t, "keys")
	ready, err := s.q.Stored(context.Background(), keys)
	var want []run.ID
	var refused error
	for _, k := range keys {
		if e := s.m.stored(k); e != nil && refused == nil {
			refused = e
		}
	}
	for _, k := range keys {
		r := s.m.runs[k.Run]
		if r == nil {
			continue
		}
		if _, known := r.assets[k]; known && r.ready() && !slices.Contains(want, k.Run) {
			want = append(want, k.Run)
		}
	}
	slices.Sort(want)
	if (err == nil) != (refused == nil) || !slices.Equal(ready, want) {
		t.Fatalf("ready %q, want %q; error %v, want %v", ready, want, err, refused)
	}
}

func (s *machine) again(t *rapid.T) {
	k := s.aKey(t)
	_, err := s.q.Again(context.Background(), k, "gone")
	expect(t, err, s.m.again(k, "gone"))
}

func (s *machine) adopt(t *rapid.T) {
	id := anID().Draw(t, "id")
	var found []run.Adopted
	if r := s.m.runs[id]; r != nil {
		for _, a := range r.sorted() {
			found = append(found, run.Adopted{Key: a.Key, Stored: run.Stored{File: "kept/" + a.Key.Hash(), Size: 5, DownloadedAt: Noon()}})
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "stranger") == 0 {
		found = append(found, run.Adopted{Key: run.Key{Run: id, Kind: run.Audios, ID: "never listed"}, Stored: run.Stored{File: "x"}})
	}
	ready, err := s.q.Adopt(context.Background(), id, found)
	if len(found) == 0 {
		expect(t, err, nil)
		return
	}
	expect(t, err, s.m.adopt(id, found))
	if err == nil && ready != s.m.runs[id].ready() {
		t.Fatalf("ready: %v", ready)
	}
}

func (s *machine) lose(t *rapid.T) {
	k := s.aKey(t)
	loss := run.Loss{Rule: run.LossTime, Reason: aText().Draw(t, "reason"), At: s.m.now}
	ready, err := s.q.Lose(context.Background(), k, loss)
	expect(t, err, s.m.lose(k, loss))
	if err == nil && ready != s.m.runs[k.Run].ready() {
		t.Fatalf("ready: %v", ready)
	}
}

func (s *machine) settle(t *rapid.T) {
	settlement := run.Settlement{
		Run: anID().Draw(t, "id"), Revision: rapid.IntRange(1, 3).Draw(t, "revision"), At: s.aTime(t),
		Outcome: rapid.SampledFrom([]run.Outcome{run.OutcomeStored, run.OutcomePartial, run.OutcomeFailed}).Draw(t, "outcome"),
	}
	err := s.q.Settle(context.Background(), []run.Settlement{settlement})
	expect(t, err, s.m.settle(settlement))
}

// finish brings a run to its end by the ordinary way, so that many a walk gets
// that far.
func (s *machine) finish(t *rapid.T) {
	id := anID().Draw(t, "id")
	v := run.Verdict{Answer: &run.Answer{Run: id, Status: run.Completed}, Terminal: true, At: s.m.now}
	_, err := s.q.Answered(context.Background(), id, v)
	_, want := s.m.answered(id, v)
	expect(t, err, want)
	if want != nil {
		return
	}
	for _, a := range s.m.runs[id].sorted() {
		if a.State == run.AssetWaiting {
			loss := run.Loss{Rule: run.LossFinal, Reason: "404", At: s.m.now}
			_, err := s.q.Lose(context.Background(), a.Key, loss)
			expect(t, err, s.m.lose(a.Key, loss))
		}
		if a.State == run.AssetVerified {
			_, err := s.q.Stored(context.Background(), []run.Key{a.Key})
			expect(t, err, s.m.stored(a.Key))
		}
	}
	settlement := run.Settlement{Run: id, Outcome: run.OutcomePartial, Revision: 1, At: s.m.now}
	expect(t, s.q.Settle(context.Background(), []run.Settlement{settlement}), s.m.settle(settlement))
}

func (s *machine) retry(t *rapid.T) {
	id := anID().Draw(t, "id")
	expect(t, s.q.Retry(context.Background(), id, nil), s.m.retry(id))
}

func (s *machine) remove(t *rapid.T) {
	id, force := anID().Draw(t, "id"), rapid.IntRange(0, 4).Draw(t, "force") == 0
	expect(t, s.q.Remove(context.Background(), id, force), s.m.remove(id, force))
}
