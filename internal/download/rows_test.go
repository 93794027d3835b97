package download_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// rows is a failure of each row of the table.
var rows = map[string]transfer.Failure{
	"refused by our rules before a request": {Class: transfer.Rule},
	"refused by our rules after a response": {Class: transfer.Rule, Status: 302},
	"429, 503":                              {Class: transfer.Throttled, Status: 503},
	"400, 401, 403":                         {Class: transfer.Server, Status: 400},
	"404, 410, 451":                         {Class: transfer.Gone, Status: 404},
	"408":                                   {Class: transfer.Server, Status: 408},
	"other 4xx":                             {Class: transfer.Server, Status: 422},
	"other 5xx, or a status that is none of a download":          {Class: transfer.Server, Status: 502},
	"no media, redirects that lead nowhere, no proof of the end": {Class: transfer.RedirectLoop, Status: 302},
	"malformed response":           {Class: transfer.Network, Phase: transfer.Header},
	"body cut, damaged or stalled": {Class: transfer.Network, Status: 206},
	"no connection: DNS, an address that is not public, connect, TLS, proxy": {Class: transfer.Network, Phase: transfer.Connecting},
	"reset, closed or timed out before a response":                           {Class: transfer.Network, Phase: transfer.Awaiting},
}

// unmade are rows that no response leads to: they are held by TestCase_A20 alone.
var unmade = map[string]bool{"no URL, or none that can be read": true, "part not written, no free space, stopped": true}

func TestTableOfResponsesIsWhatThePoolDoes(t *testing.T) {
	for _, row := range download.Responses() {
		f, ok := rows[row.Name]
		if !ok {
			if !unmade[row.Name] {
				t.Errorf("no failure for the row %q", row.Name)
			}
			continue
		}
		for when, c := range map[string]struct {
			life time.Duration
			want [2]string
		}{"before": {6 * hour, row.Before}, "past": {-hour, row.Past}, "unknown": {0, row.Unknown}} {
			t.Run(row.Name+", "+when, func(t *testing.T) {
				live(t, func(w *world) { w.meansForTheAsset(f, c.life, c.want[0]) })
				live(t, func(w *world) { w.meansForTheHost(f, c.life, c.want[1]) })
			})
		}
	}
}

func always(f transfer.Failure) fetchFunc {
	return func(_ context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		g := f
		g.Host, g.Err = host(r.URL), errors.New("it always fails")
		return transfer.Result{}, &g
	}
}

// meansForTheAsset lets an asset always fail so, while others of its host are had.
func (w *world) meansForTheAsset(f transfer.Failure, life time.Duration, want string) {
	w.clk.skew["cdn"] = 0
	w.s.rule("https://cdn/bad", always(f))
	w.addMany("good", "g", "https://cdn/good", 60, 12*hour)
	w.cfg.HostRate = 2 // so that there are others all the time
	bad := w.add("bad", "a", "https://cdn/bad", life)
	w.start()
	w.pass(20 * time.Second)
	tries, asked := len(w.s.of("https://cdn/bad")), w.asked()
	e := w.evidence(bad)
	spacing := time.Duration(0)
	if len(asked) > 0 {
		spacing = asked[0].spacing
	}
	got := "?"
	switch {
	case w.q.state(bad) == run.AssetLost:
		got = "ruled"
	case spacing == 30*time.Second && tries == 1 && e.Refusals == 1 && e.Finals == 0:
		got = "expired"
	case spacing == time.Hour && tries >= 3 && e.Refusals == tries && e.Finals == 0:
		got = "denied"
	case spacing == 30*time.Second && tries >= 2 && e.Refusals == 0 && e.Finals == tries:
		got = "last"
	case len(asked) == 0 && tries >= 3 && e.Refusals == 0 && e.Finals == 0:
		got = "again"
	}
	if got != want {
		w.t.Errorf("for the asset it means %q, want %q: %d tries, %d refusals, %d finals, asked %v", got, want, tries, e.Refusals, e.Finals, asked)
	}
}

// meansForTheHost lets two assets fail so once: on a host of which nothing is known, and
// on one that throttles.
func (w *world) meansForTheHost(f transfer.Failure, life time.Duration, want string) {
	w.cfg.Workers = 1
	for _, host := range []string{"new", "closed"} {
		w.clk.skew[host] = 0
		w.s.rule("https://"+host+"/bad", always(f))
	}
	w.s.rule("https://closed/first", refuse(transfer.Throttled, 429))
	// By urgency: what closes the host, what fails so, and what shows where that leads.
	w.add("run1", "first", "https://closed/first", -2*hour)
	w.start()
	w.pass(100 * time.Millisecond)
	w.add("run2", "bad", "https://closed/bad", life)
	w.add("run4", "bad2", "https://new/bad", life)
	w.pass(10 * time.Millisecond)
	w.add("run3", "good", "https://closed/good", 24*hour)
	w.add("run3", "good2", "https://new/good", 24*hour)
	w.pass(2 * time.Minute)
	gap := func(host string) time.Duration {
		good, bad := w.s.of("https://"+host+"/good"), w.s.of("https://"+host+"/bad")
		if len(good) == 0 || len(bad) == 0 {
			w.t.Errorf("%d and %d requests to the host %s", len(good), len(bad), host)
			return -1
		}
		return good[0].at - bad[0].at
	}
	opens, closedGap := gap("new") < 200*time.Millisecond, gap("closed")
	slowed := 0
	for _, e := range w.told(run.HostSlowed) {
		if e.Host == "new" {
			slowed++
		}
	}
	got := "?"
	switch {
	case !opens && slowed > 0:
		got = "closes"
	case opens && closedGap < 200*time.Millisecond:
		got = "answers"
	case opens && closedGap >= 500*time.Millisecond:
		got = "undecided or errs"
	}
	means := map[string]string{
		"nothing": "?", "answers": "answers", "errs": "undecided or errs", "undecided": "undecided or errs",
		"slows": "closes", "silent": "closes", "unreachable": "closes",
	}
	if want != "nothing" && got != means[want] {
		w.t.Errorf("for the host it means %q, want %q (%s): on a new host %v later, on a closed one %v, slowed %d times", got, means[want], want, gap("new"), closedGap, slowed)
	}
}
