package get

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Wait is what some of the given runs wait for, and until when.
type Wait struct {
	Runs  []run.ID
	About string // stays the same while the same thing is waited for
	For   string
	Until string
}

// reasons records from the events why assets are not being fetched. It is safe for
// concurrent use.
type reasons struct {
	mu     sync.Mutex
	assets map[run.Key]string // the last failure, while the asset waits
	hosts  map[string]string  // hosts that are throttled
}

// maxReasons bounds each map.
const maxReasons = 1000

func (r *reasons) note(e run.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := e.Text()
	if e.Note != "" {
		text += ": " + e.Note
	}
	switch e.Kind {
	case run.AssetRetry:
		if len(r.assets) < maxReasons {
			r.assets[e.Asset] = text
		}
	case run.AssetStarted, run.AssetKept, run.AssetGone:
		delete(r.assets, e.Asset)
	case run.HostSlowed:
		if len(r.hosts) < maxReasons {
			r.hosts[e.Host] = text
		}
	case run.HostBack:
		delete(r.hosts, e.Host)
	}
}

// of returns why an asset is not being fetched, or "".
func (r *reasons) of(a run.Asset) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u, err := url.Parse(a.Source); err == nil && u.Host != "" {
		if text, slow := r.hosts[strings.ToLower(u.Host)]; slow {
			return u.Host + ": " + text
		}
	}
	return r.assets[a.Key]
}

// waits returns what the runs that are not settled wait for. Runs that wait for the same
// are together, in the order of the first of each.
func (g *getter) waits(ctx context.Context) ([]Wait, error) {
	runs, err := g.runs(ctx)
	if err != nil {
		return nil, err
	}
	flying := map[run.ID][]download.Transfer{}
	for _, t := range g.pipeline.Pool.InFlight() {
		flying[t.Key.Run] = append(flying[t.Key.Run], t)
	}
	var all []Wait
	at := map[string]int{}
	for _, r := range runs {
		if r.State.Settled() {
			continue
		}
		w := g.waitOf(ctx, r, flying[r.ID])
		if i, known := at[w.About]; known {
			all[i].Runs = append(all[i].Runs, r.ID)
			continue
		}
		at[w.About] = len(all)
		w.Runs = []run.ID{r.ID}
		all = append(all, w)
	}
	return all, nil
}

// waitOf returns what one run waits for.
func (g *getter) waitOf(ctx context.Context, r run.Run, flying []download.Transfer) Wait {
	held := g.health.Held(r)
	switch {
	case !r.Ended():
		return waitForAPI(&g.cfg, r, held, time.Now())
	case r.Open() == 0:
		return waitFor("manifest", "its manifest to be written", "it is", held)
	}
	w := waitFor("assets", "", "", held)
	w.About += string(r.ID) // each run has its own assets
	stored := fmt.Sprintf("%d of %s stored", r.Stored, english.Plural(r.Assets, "asset", ""))
	if len(flying) > 0 {
		var done, total int64
		for _, t := range flying {
			done, total = done+t.Bytes, total+max(t.Total, t.Bytes)
		}
		w.For = fmt.Sprintf("%s, %s under way (%s of %s)", stored, english.Plural(len(flying), "transfer", ""), humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)))
		w.Until = "they are stored"
		return w
	}
	w.For = stored
	if w.For += causes(held); len(held) == 0 {
		w.For += g.whyWaiting(ctx, r)
	}
	w.Until = "they are stored or lost, at the latest " + day(r.EndedAt.Add(g.cfg.Download.LostAfter)) + " (download.lost_after)"
	return w
}

// whyWaiting returns why the assets of a run are not being fetched: the first known reason.
func (g *getter) whyWaiting(ctx context.Context, r run.Run) string {
	assets, err := g.queue.Assets(ctx, r.ID)
	if err != nil {
		return ""
	}
	for _, a := range assets {
		if !a.State.Open() {
			continue
		}
		if why := g.reasons.of(a); why != "" {
			return "; " + why
		}
	}
	return ""
}

// waitForAPI returns what a run waits for that has not ended.
func waitForAPI(c *config.Config, r run.Run, held []string, now time.Time) Wait {
	polled := fmt.Sprintf("asked every %v to %v", c.Poll.MinInterval, c.Poll.MaxInterval)
	p := r.Polls
	switch {
	case len(held) > 0:
		return waitFor("held", "the API's answer", "that is over; time in which the API does not answer does not count", held)
	case p.NotFound > 0:
		what := "the API does not know it"
		if p.NoAccess {
			what = "the key may not see it"
		}
		end := now.Add(c.Poll.NotFoundAfter - p.MissingFor.Total)
		return waitFor("missing"+p.LastError, fmt.Sprintf("the API to know it: %s (%s), %s", what, p.LastError, polled),
			fmt.Sprintf("it is answered, or given up at %s, after %v of such answers", clockTime(end, now), c.Poll.NotFoundAfter), nil)
	case p.LastError != "":
		return waitFor("refused"+p.LastError, fmt.Sprintf("the API's answer: %s, %s", p.LastError, polled), "it is answered", nil)
	case p.Count == 0:
		return waitFor("first", "the API's first answer", "it comes", nil)
	}
	end := now.Add(c.Poll.GiveUpAfter - p.OpenFor.Total)
	return waitFor("status"+string(r.Status), fmt.Sprintf("its end: the API says %.64s, %s", signedurl.Redact(string(r.Status)), polled),
		"it ends, or is given up "+day(end)+" (poll.give_up_after)", nil)
}

// waitFor returns a wait with what holds it up on our side.
func waitFor(about, what, until string, held []string) Wait {
	return Wait{About: about + causes(held), For: what + causes(held), Until: until}
}

func causes(held []string) string {
	if len(held) == 0 {
		return ""
	}
	return "; " + strings.Join(held, "; ")
}

// clockTime formats a time of today without its date, another one with it.
func clockTime(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

const (
	progressInterval = 500 * time.Millisecond
	firstWaits       = time.Second // early, since a --timeout may be short
	waitsInterval    = 10 * time.Second
	pulseInterval    = time.Minute
)

// watch reports transfers, waits and runs until ctx ends.
func (g *getter) watch(ctx context.Context) {
	progress, pulse, waits := time.NewTicker(progressInterval), time.NewTicker(pulseInterval), time.NewTimer(firstWaits)
	defer progress.Stop()
	defer pulse.Stop()
	defer waits.Stop()
	for {
		select {
		case <-ctx.Done():
			g.Progress(nil)
			return
		case <-progress.C:
			g.Progress(g.pipeline.Pool.InFlight())
		case <-waits.C:
			waits.Reset(waitsInterval)
			if all, err := g.waits(ctx); !errors.Is(err, context.Canceled) && err == nil { // wait returns other errors
				g.Waits(all)
			}
		case <-pulse.C:
			if runs, err := g.runs(ctx); err == nil { // wait returns the error
				g.Pulse(runs)
			}
		}
	}
}
