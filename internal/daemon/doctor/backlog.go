package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// backlog adds what is still to be fetched, and whether there is enough time for it: that a
// running daemon measures.
func (d *doctor) backlog(ctx context.Context) {
	if d.running {
		if s, err := server.NewClient(d.cfg.State.Socket()).Status(ctx); err == nil {
			d.backlogOf(s)
		}
		return // that it does not answer has its own result
	}
	if d.queue == nil {
		return
	}
	counts, err := d.queue.Counts(ctx)
	if err != nil {
		return // the queue has its own result
	}
	runs := counts.Runs[run.Waiting] + counts.Runs[run.Downloading]
	assets := counts.Assets[run.AssetWaiting]
	switch first, _, err := d.queue.Waiting(ctx, "", 1); {
	case err != nil:
	case runs == 0:
		d.add("backlog", Good, "", "nothing is waiting")
	case len(first) == 0:
		d.add("backlog", Note, "start the daemon: assetd run", "%s waiting", english.Plural(runs, "run is", "runs are"))
	default:
		d.add("backlog", Note, "start the daemon: assetd run", "%s of %s waiting, the first URL %s; how long they take shows when a daemon runs",
			english.Plural(assets, "asset", ""), english.Plural(runs, "run is", "runs are"), expires(first[0], time.Now()))
	}
}

// backlogOf adds the backlog of a running daemon.
func (d *doctor) backlogOf(s server.Status) {
	runs := s.Runs[run.Waiting] + s.Runs[run.Downloading]
	if runs == 0 {
		d.add("backlog", Good, "", "nothing is waiting")
		return
	}
	text := english.Plural(runs, "run is", "runs are") + " waiting"
	if n := s.Assets[run.AssetWaiting]; n > 0 {
		text = english.Plural(n, "asset", "") + " of " + text
	}
	if s.Link > 0 {
		text += fmt.Sprintf(", the link brings %s per second", humanize.IBytes(uint64(s.Link)))
	}
	short := false
	if s.Drain != nil && s.Slack != nil {
		short = *s.Slack < 0
		text += fmt.Sprintf(", what expires first takes %v and has %v more than that", s.Drain.Duration(), s.Slack.Duration())
	}
	switch {
	case s.AtRisk > 0:
		d.add("backlog", Bad, "assetd list --at-risk names their runs, and the log says what is in the way",
			"%s: %s may not be there before their URLs expire", text, english.Plural(s.AtRisk, "asset", ""))
	case short:
		d.add("backlog", Note, "see who else uses the link, and download.max_rate", "%s", text)
	default:
		d.add("backlog", Good, "", "%s", text)
	}
}

func expires(a run.Asset, now time.Time) string {
	if a.Expiry.IsZero() {
		return "expires at an unknown time"
	}
	left := a.Expiry.Sub(now).Round(time.Minute)
	if left < 0 {
		return "expired " + a.Expiry.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("expires in %v", left)
}
