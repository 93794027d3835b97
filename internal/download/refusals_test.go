package download_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
	"github.com/assetd/assetd/internal/transfer"
)

// The four cases of 403.

func TestRefusalAfterDeathAsksForFreshURLsOnceForTheRun(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 16
		w.clk.skew["cdn"] = 0
		w.s.rule("https://cdn/old", refuse(transfer.Refused, 403))
		fresh := map[run.Key]run.Listed{}
		for n := range 100 {
			k := w.add("run1", fmt.Sprint("a", n), fmt.Sprintf("https://cdn/old%d?token=x", n), time.Second)
			fresh[k] = w.listed(k, fmt.Sprintf("https://cdn/new%d?token=y", n), 12*hour)
		}
		w.pass(2 * time.Second) // all are dead
		w.start()
		w.pass(30 * time.Second)
		if asked := w.asked(); len(asked) != 1 || asked[0].id != "run1" || asked[0].spacing != 30*time.Second {
			t.Errorf("fresh URLs asked for: %v", asked)
		}
		if got := len(w.s.of("https://cdn/old")); got > 16 {
			t.Errorf("%d requests in vain", got)
		}
		if got := len(w.told(run.HostSlowed)); got != 0 {
			t.Errorf("an expired URL closed the host %d times", got)
		}
		w.answer("run1", fresh)
		w.pass(time.Minute)
		if got := len(w.told(run.AssetKept)); got != 100 {
			t.Errorf("%d of 100 stored", got)
		}
		if got := len(w.s.of("https://cdn/new")); got != 100 {
			t.Errorf("%d requests with fresh URLs", got)
		}
	})
}

func TestAnswerFreesAlsoAssetsThatWereNotTriedForTheSakeOfAnother(t *testing.T) {
	live(t, func(w *world) {
		w.cfg.Workers = 1
		w.clk.skew["cdn"] = 0
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.s.rule("https://cdn/b", refuse(transfer.Server, 500))
		w.add("run1", "a", "https://cdn/a", time.Minute)
		b := w.add("run1", "b", "https://cdn/b", 90*time.Second)
		w.start()
		w.pass(5 * time.Minute) // b failed before, and is dead now
		requests := len(w.s.of("https://cdn/b"))
		w.s.rule("https://cdn/b", serve("body", 0))
		w.pass(2 * time.Minute)
		if got := len(w.s.of("https://cdn/b")); got != requests {
			t.Errorf("%d requests with a URL that is dead", got-requests)
		}
		w.again("run1")
		w.pass(70 * time.Second) // the host may be closed for a minute
		w.expect(b, run.AssetStored)
	})
}

func TestRefusalOfAFreshURLIsAskedAboutAgain(t *testing.T) {
	live(t, func(w *world) {
		w.poll()
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.add("run1", "a", "https://cdn/a", 0)
		w.start()
		w.pass(95 * time.Second)
		var at []time.Duration
		for _, r := range w.asked() {
			at = append(at, r.at)
		}
		// Each answer comes a second after, or as the spacing is over, and is refused.
		if d := cmp.Diff(seconds(0, 1, 31, 61, 91), at); d != "" {
			t.Errorf("asked at (-want +got):\n%s", d)
		}
	})
}

func TestRefusalOfAnUnknownExpiryAsksForFreshURLs(t *testing.T) {
	live(t, func(w *world) {
		w.s.rule("https://cdn/old", refuse(transfer.Refused, 403))
		k := w.add("run1", "a", "https://cdn/old", 0)
		w.start()
		w.pass(9 * time.Minute)
		if asked := w.asked(); len(asked) != 1 || asked[0].spacing != 30*time.Second {
			t.Errorf("fresh URLs asked for: %v", asked)
		}
		if got := len(w.s.of("")); got != 1 {
			t.Errorf("%d requests while fresh URLs are waited for", got)
		}
		w.pass(2 * time.Minute) // the answer does not come: it is tried all the same
		if got := len(w.s.of("")); got != 2 {
			t.Errorf("%d requests after the patience is over", got)
		}
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn/new", 0)})
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}

func TestRefusalBeforeDeathSlowsTheHostAndAsksForNoFreshURL(t *testing.T) {
	live(t, func(w *world) {
		w.clk.skew["cdn"] = 0
		w.s.rule("https://cdn/", refuse(transfer.Refused, 403))
		w.addMany("run1", "a", "https://cdn/a", 50, 12*hour)
		w.start()
		w.pass(3 * time.Minute)
		if asked := w.asked(); len(asked) != 0 {
			t.Errorf("a throttling host made us ask for fresh URLs: %v", asked)
		}
		// Each may be refused for its own sake: all are probed, one after the other, in
		// less than a minute. Then the host is taken to refuse everything.
		at, each := w.s.times(""), map[run.Key]int{}
		for _, r := range w.s.of("")[:50] {
			each[r.key]++
		}
		if len(each) != 50 || at[49] > time.Minute || at[1]-at[0] < 600*time.Millisecond {
			t.Errorf("%d of 50 were probed, at %v", len(each), at)
		}
		if d := cmp.Diff([]time.Duration{at[49] + time.Minute, at[49] + 2*time.Minute}, at[50:]); d != "" {
			t.Errorf("later requests at (-want +got):\n%s", d)
		}
		w.s.rule("https://cdn/", serve("body", 0))
		w.pass(3 * time.Minute)
		if got := len(w.told(run.AssetKept)); got != 50 {
			t.Errorf("%d of 50 stored", got)
		}
	})
}

func TestAssetRefusedThriceWhileOthersAreAnsweredGetsFreshURLsOnceAnHour(t *testing.T) {
	testenv.Long(t)
	live(t, func(w *world) {
		w.cfg.Workers = 2
		w.clk.skew["cdn"] = 0
		w.s.rule("https://cdn/bad", refuse(transfer.Refused, 401))
		w.s.rule("https://cdn/a", serve("body", 10*time.Second))
		bad := w.add("run1", "bad", "https://cdn/bad", 10*hour)
		w.addMany("run2", "a", "https://cdn/a", 700, 12*hour)
		w.onRenew = func(id run.ID) {
			go func() {
				time.Sleep(time.Second)
				w.again(id) // the same URL
			}()
		}
		w.start()
		w.pass(time.Minute)
		asked := w.asked()
		if len(asked) == 0 || asked[0].id != "run1" || asked[0].spacing != time.Hour {
			t.Fatalf("fresh URLs asked for: %v", asked)
		}
		if got := len(w.q.trials[bad]); got < 3 {
			t.Errorf("asked for after %d refusals", got)
		}
		w.mu.Lock()
		w.onRenew = nil
		w.mu.Unlock()
		w.pass(50 * time.Minute)
		for _, r := range w.asked() {
			if r.spacing != time.Hour {
				t.Errorf("fresh URLs with a spacing of %v", r.spacing)
			}
		}
		if got := len(w.asked()); got > 1 {
			t.Errorf("asked %d times in an hour", got)
		}
		w.answer("run1", map[run.Key]run.Listed{bad: w.listed(bad, "https://cdn/good", 9*hour)})
		w.pass(time.Minute)
		w.expect(bad, run.AssetStored)
	})
}

func TestURLThatIsExpiredByTheLocalClockIsTriedAll(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", time.Second)
		w.pass(10 * hour)
		w.start()
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
		if asked := w.asked(); len(asked) != 0 {
			t.Errorf("fresh URLs asked for: %v", asked)
		}
	})
}

func TestRefusalIsJudgedByTheHostsClock(t *testing.T) {
	for name, c := range map[string]struct {
		skew  time.Duration // of the host
		date  time.Duration // of the answer; 0: none
		renew bool
	}{
		"host is ahead":              {skew: 2 * hour, renew: true},
		"host is behind":             {skew: -2 * hour},
		"only this answer's Date":    {date: 2 * hour, renew: true},
		"nothing but the local time": {},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				if c.skew != 0 {
					w.clk.skew["cdn"] = c.skew
				}
				w.add("run1", "a", "https://cdn/a", hour)
				w.s.rule("https://cdn/", func(context.Context, transfer.Request, transfer.Part, func(int64, int64)) (transfer.Result, error) {
					f := failure(transfer.Refused, 403, errors.New("no"))
					f.Host = "cdn"
					if c.date != 0 {
						f.Date = time.Now().Add(c.date)
					}
					return transfer.Result{}, f
				})
				w.start()
				w.pass(time.Millisecond)
				if got := len(w.asked()) == 1; got != c.renew {
					t.Errorf("asked for fresh URLs: %v, want %v", got, c.renew)
				}
			})
		})
	}
}

func TestAnswerThatIsNotAtHandIsAskedForOnceMore(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", hour)
		delete(w.q.urls, k)
		w.start()
		w.pass(time.Minute)
		if asked := w.asked(); len(asked) != 1 || asked[0].id != "run1" {
			t.Errorf("asked for: %v", asked)
		}
		w.answer("run1", map[run.Key]run.Listed{k: w.listed(k, "https://cdn/a", hour)})
		w.pass(time.Second)
		w.expect(k, run.AssetStored)
	})
}
