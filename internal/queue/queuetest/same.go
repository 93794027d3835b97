package queuetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

// same compares everything that can be asked.
func (s *machine) same(t *rapid.T) {
	ctx := context.Background()
	if err := s.q.Audit(ctx); err != nil {
		t.Fatal(err)
	}
	var ids, ready, due []run.ID
	waiting, verified := map[run.Key]time.Time{}, 0
	for id, r := range s.m.runs {
		ids = append(ids, id)
		if r.ready() {
			ready = append(ready, id)
		}
		if !r.due.IsZero() {
			due = append(due, id)
		}
		assets, err := s.q.Assets(ctx, id)
		expect(t, err, nil)
		if diff := cmp.Diff(r.sorted(), assets, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		for k, a := range r.assets {
			switch a.State {
			case run.AssetWaiting:
				waiting[k] = a.Deadline(0)
			case run.AssetVerified:
				verified++
			}
		}
	}
	slices.Sort(ids)
	slices.Sort(ready)
	slices.SortFunc(due, func(a, b run.ID) int {
		if c := s.m.runs[a].due.Compare(s.m.runs[b].due); c != 0 {
			return c
		}
		return strings.Compare(string(a), string(b))
	})
	s.sameLists(t, ids, ready, due)
	s.sameOutbox(t, run.CommandHook)
	s.sameOutbox(t, run.URLHook)
	got := s.pages(t, s.q.Waiting)
	for i, a := range got {
		if i > 0 && a.Deadline(0).Before(got[i-1].Deadline(0)) {
			t.Fatalf("%v before %v", got[i-1], a)
		}
		if _, ok := waiting[a.Key]; !ok {
			t.Fatalf("%q is not waiting", a.Key)
		}
	}
	if len(got) != len(waiting) || len(s.pages(t, s.q.VerifiedAssets)) != verified {
		t.Fatalf("%d waiting, want %d; or not %d verified", len(got), len(waiting), verified)
	}
}

// sameOutbox reads a hook's notices two at a time.
func (s *machine) sameOutbox(t *rapid.T, hook run.Hooks) {
	var want, got []run.Notice
	for _, w := range s.m.outbox {
		if w.to&hook != 0 {
			want = append(want, w.Notice)
		}
	}
	for after := uint64(0); ; {
		page, err := s.q.Outbox(context.Background(), hook, after, 2)
		expect(t, err, nil)
		for _, n := range page {
			if n.Seq <= after {
				t.Fatalf("place %d after %d", n.Seq, after)
			}
			after, n.Seq = n.Seq, 0
			got = append(got, n)
		}
		if len(page) < 2 {
			break
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: %s", hook, diff)
	}
	standing, err := s.q.Standing(context.Background())
	expect(t, err, nil)
	if len(standing) != len(s.m.stands) {
		t.Fatalf("stands %q, want %v", standing, s.m.stands)
	}
	for _, k := range standing {
		if !s.m.stands[k] {
			t.Fatalf("%q does not stand", k)
		}
	}
}

func (s *machine) pages(t *rapid.T, page func(context.Context, string, int) ([]run.Asset, string, error)) (all []run.Asset) {
	for cursor := ""; ; {
		some, next, err := page(context.Background(), cursor, 2)
		expect(t, err, nil)
		all = append(all, some...)
		if cursor = next; next == "" {
			return all
		}
	}
}

func (s *machine) sameLists(t *rapid.T, ids, ready, due []run.ID) {
	ctx := context.Background()
	var listed []run.ID
	for {
		after := run.ID("")
		if len(listed) > 0 {
			after = listed[len(listed)-1]
		}
		page, err := s.q.List(ctx, "", after, 2)
		expect(t, err, nil)
		for _, r := range page {
			listed = append(listed, r.ID)
			if diff := cmp.Diff(s.m.runs[r.ID].Run, r, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(run.Run{}, "Submission")); diff != "" {
				t.Fatal(diff)
			}
		}
		if len(page) < 2 {
			break
		}
	}
	isReady, err := s.q.Ready(ctx, 99)
	expect(t, err, nil)
	var isDue []run.ID
	later, next, err := s.q.Due(ctx, s.m.now.Add(1000*time.Hour), run.Turns{}, 99)
	expect(t, err, nil)
	for _, r := range later {
		isDue = append(isDue, r.ID)
	}
	slices.Sort(isDue) // the order is that of the turns, which have their own tests
	due = slices.Sorted(slices.Values(due))
	if !slices.Equal(ids, listed) || !slices.Equal(ready, isReady) || !slices.Equal(due, isDue) || !next.IsZero() {
		t.Fatalf("listed %q want %q; ready %q want %q; due %q want %q, next %v", listed, ids, isReady, ready, isDue, due, next)
	}
}
