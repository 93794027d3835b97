package download_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// An API that brings another URL each time it is asked keeps no asset alive for ever
// that never works, loses none sooner than the rules do, and is not asked more often.
func TestAnAPIThatAlwaysRenewsEndsNothingAndKeepsNothingAlive(t *testing.T) {
	for name, c := range map[string]struct {
		life  time.Duration // of each fresh URL
		fetch fetchFunc
		rule  run.LossRule
		at    time.Duration // when it is lost
	}{
		"fresh URLs are refused, too":        {time.Minute, refuse(transfer.Refused, 403), run.LossTime, 6 * hour},
		"fresh URLs are dead when they come": {-time.Second, refuse(transfer.Refused, 403), run.LossTime, 6 * hour},
		"fresh URLs of unknown expiry":       {0, refuse(transfer.Refused, 403), run.LossTime, 6 * hour},
		"fresh URLs lead nowhere":            {12 * hour, refuse(transfer.Gone, 404), run.LossFinal, 30 * time.Minute},
		"fresh URLs lead to a page":          {time.Minute, refuse(transfer.NotMedia, 200), run.LossFinal, 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				w.cfg.LostAfter = 6 * hour
				w.clk.skew["cdn"] = 0
				w.s.rule("https://cdn/", c.fetch)
				polls := 0
				w.pollWith(func(id run.ID) {
					polls++
					fresh := map[run.Key]run.Listed{}
					for _, k := range []run.Key{key(id, "a"), key(id, "b")} {
						fresh[k] = w.listed(k, fmt.Sprintf("https://cdn/%s?n=%d", k.ID, polls), c.life)
					}
					w.answer(id, fresh)
				})
				a := w.add("run1", "a", "https://cdn/a", time.Second)
				b := w.add("run1", "b", "https://cdn/b", time.Second)
				w.pass(2 * time.Second)
				w.start()
				w.until(c.at - 2*time.Second)
				w.expect(a, run.AssetWaiting)
				w.expect(b, run.AssetWaiting)
				w.until(c.at + 2*time.Minute)
				w.lost(a, c.rule)
				w.lost(b, c.rule)
				if most := int(time.Since(w.begin)/(30*time.Second)) + 2; polls < 2 || polls > most {
					t.Errorf("%d polls for the run's two assets, no more than %d may be", polls, most)
				}
				asked, requests := len(w.asked()), len(w.s.of(""))
				w.pass(6 * hour)
				if n, m := len(w.asked())-asked, len(w.s.of(""))-requests; n+m > 0 {
					t.Errorf("%d times asked for fresh URLs and %d requests after the loss", n, m)
				}
			})
		})
	}
}
