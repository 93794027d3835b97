package download_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// How a server wants to be asked.

// answerOf is a failure that a request of its form gets.
type answerOf struct {
	class   transfer.Class
	status  int
	after   time.Duration
	resumed bool
	phase   transfer.Phase
}

func (a answerOf) fail(r transfer.Request) (transfer.Result, error) {
	f := failure(a.class, a.status, fmt.Errorf("answered %d", a.status))
	f.Phase = a.phase
	f.Host, f.RetryAfter, f.Ranged, f.Resumed = host(r.URL), a.after, !r.Plain, a.resumed && !r.Plain
	return transfer.Result{}, f
}

// pickyServer answers requests with Range with the failures in turn, the last for all
// that follow, and serves those without. It returns the forms it was asked in.
func pickyServer(w *world, ranged ...answerOf) *[]bool {
	var plain []bool
	n := 0
	w.s.rule("https://cdn/", func(c context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		plain = append(plain, r.Plain)
		if r.Plain {
			return serve("the object", 0)(c, r, p, progress)
		}
		n++
		return ranged[min(n, len(ranged))-1].fail(r)
	})
	return &plain
}

func TestCase_A7_AsksWithoutRangeAfterARefusedRange(t *testing.T) {
	for _, refused := range []answerOf{
		{class: transfer.Server, status: 400},
		{class: transfer.Refused, status: 401},
		{class: transfer.Refused, status: 403},
		{class: transfer.Gone, status: 404},
		{class: transfer.Server, status: 405},
		{class: transfer.Server, status: 406},
		{class: transfer.Gone, status: 410},
		{class: transfer.Server, status: 412},
		{class: transfer.Server, status: 416},
		{class: transfer.Server, status: 417},
		{class: transfer.Server, status: 422},
		{class: transfer.Gone, status: 451},
		{class: transfer.Server, status: 500},
		{class: transfer.Server, status: 501},
		{class: transfer.Server, status: 502},
		{class: transfer.Throttled, status: 503},
		{class: transfer.Server, status: 504},
		{class: transfer.Server, status: 505},
		{class: transfer.Server, status: 304},
		{class: transfer.RedirectLoop, status: 302},
		{class: transfer.NotMedia, status: 200},
		{class: transfer.Server, status: 202},
		{class: transfer.Server, status: 205},
		{class: transfer.Server, status: 207},
		{class: transfer.Network, phase: transfer.Header},
	} {
		for _, life := range []time.Duration{200 * hour, 0} { // 0: the expiry is not known
			live(t, func(w *world) {
				w.onRenew = func(id run.ID) { go w.again(id) }
				k := w.add("run1", "a", "https://cdn/a", life)
				plain := pickyServer(w, refused)
				w.start()
				w.pass(time.Minute)
				w.expect(k, run.AssetStored)
				if !slices.Equal(*plain, []bool{false, true}) {
					t.Errorf("%d (life %v): asked without Range: %v, want once, the second time", refused.status, life, *plain)
				}
			})
		}
	}
}

func TestCase_A7_ExpiryAndThrottlingAreNotTheRange(t *testing.T) {
	for name, c := range map[string]struct {
		answer answerOf
		life   time.Duration
	}{
		"429":                  {answerOf{class: transfer.Throttled, status: 429}, 200 * hour},
		"503 with Retry-After": {answerOf{class: transfer.Throttled, status: 503, after: time.Second}, 200 * hour},
		"403 past exp":         {answerOf{class: transfer.Refused, status: 403}, -time.Minute},
		"404 past exp":         {answerOf{class: transfer.Gone, status: 404}, -time.Minute},
		"400 past exp":         {answerOf{class: transfer.Server, status: 400}, -time.Minute},
		"no connection":        {answerOf{class: transfer.Network, phase: transfer.Connecting}, 200 * hour},
		"no answer":            {answerOf{class: transfer.Network, phase: transfer.Awaiting}, 200 * hour},
		"cut":                  {answerOf{class: transfer.Network, status: 206}, 200 * hour},
		"stalled":              {answerOf{class: transfer.Stall, status: 206}, 200 * hour},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.clk.skew["cdn"] = 0
				w.onRenew = func(id run.ID) { go w.again(id) }
				w.add("run1", "a", "https://cdn/a", c.life)
				plain := pickyServer(w, c.answer)
				w.start()
				w.pass(5 * time.Minute)
				if len(*plain) < 2 || slices.Contains(*plain, true) {
					t.Errorf("asked without Range: %v, want never", *plain)
				}
			})
		})
	}
}

// A refusal that is the same without Range was not about Range: the next request has
// one again, so that a large object is not fetched over one connection for good.
func TestCase_A7_AsksWithRangeAgainWhereThatWasNotTheReason(t *testing.T) {
	live(t, func(w *world) {
		w.add("run1", "a", "https://cdn/a", 200*hour)
		var plain []bool
		w.s.rule("https://cdn/", func(_ context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
			plain = append(plain, r.Plain)
			return answerOf{class: transfer.Server, status: 500}.fail(r)
		})
		w.start()
		w.pass(20 * time.Second)
		if len(plain) < 4 || !slices.Equal(plain[:4], []bool{false, true, false, true}) {
			t.Errorf("asked without Range: %v, want every other time", plain)
		}
	})
}

func TestCase_A7_IsRememberedForARenewedURL(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a?1", 0)
		n := 1
		w.onRenew = func(id run.ID) {
			n++
			go w.answer(id, map[run.Key]run.Listed{k: w.listed(k, fmt.Sprintf("https://cdn/a?%d", n), 0)})
		}
		plain := pickyServer(w, answerOf{class: transfer.Refused, status: 403})
		w.start()
		w.pass(time.Minute)
		w.expect(k, run.AssetStored)
		if !slices.Equal(*plain, []bool{false, true}) {
			t.Errorf("asked without Range: %v", *plain)
		}
	})
}

func TestCase_A8_AsksForTheWholeObjectAfterRefusedResumes(t *testing.T) {
	cut := answerOf{class: transfer.Network, status: 206}
	for status, refusals := range map[int]int{
		412: 1, 304: 2, 400: 2, 403: 2, 404: 2, 405: 2, 416: 2, 422: 2, 500: 2, 501: 2, 502: 2, 503: 2, 505: 2,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			live(t, func(w *world) {
				w.clk.skew["cdn"] = 0
				k := w.add("run1", "a", "https://cdn/a", 200*hour)
				plain := pickyServer(w, cut, answerOf{class: classOf(status), status: status, resumed: true})
				w.start()
				w.pass(2 * time.Minute)
				w.expect(k, run.AssetStored)
				want := slices.Repeat([]bool{false}, 1+refusals)
				if want = append(want, true); !slices.Equal(*plain, want) {
					t.Errorf("asked without Range: %v, want %v", *plain, want)
				}
			})
		})
	}
}

func classOf(status int) transfer.Class {
	switch status {
	case 401, 403:
		return transfer.Refused
	case 404, 410, 451:
		return transfer.Gone
	case 503:
		return transfer.Throttled
	}
	return transfer.Server
}

// A resume that is answered shows that the server knows resumes.
func TestCase_A8_OneRefusalBetweenResumesDropsNothing(t *testing.T) {
	live(t, func(w *world) {
		w.add("run1", "a", "https://cdn/a", 200*hour)
		cut := answerOf{class: transfer.Network, status: 206}
		refused := answerOf{class: transfer.Server, status: 500, resumed: true}
		resumed := answerOf{class: transfer.Network, status: 206, resumed: true}
		plain := pickyServer(w, cut, refused, resumed, refused, resumed, refused, resumed)
		w.start()
		w.pass(2 * time.Minute)
		if len(*plain) < 7 || slices.Contains((*plain)[:7], true) {
			t.Errorf("asked without Range: %v", *plain)
		}
	})
}
