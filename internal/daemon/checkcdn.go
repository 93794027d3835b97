package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/transfer"
)

// How many hosts are asked, how many waiting assets are looked through for them, and
// how long one may take to answer.
const (
	hostsAsked   = 3
	hostsLooked  = 500
	hostPatience = 10 * time.Second
)

// cdn asks the hosts that assets wait at whether they can be reached from here, for
// nothing in particular: that needs no signed URL.
func (k *checker) cdn(ctx context.Context, offline bool) {
	if offline {
		k.add("CDN", Note, "run assetd check without --offline", "not asked (--offline)")
		return
	}
	client, err := transfer.New(pipeline.TransferConfig(k.cfg), clock.New())
	if err != nil {
		k.add("CDN", Bad, "mend download.proxy", "%v", err)
		return
	}
	defer client.Close()
	hosts, err := k.assetHosts(ctx)
	if err != nil {
		k.add("CDN", Note, "check again", "no host was asked: %v", err)
		return
	}
	if len(hosts) == 0 {
		k.add("CDN", Note, "", "not asked: no asset waits, so no host is known")
		return
	}
	for _, h := range hosts {
		k.reach(ctx, client, h)
	}
}

// reach asks for a host's root.
func (k *checker) reach(ctx context.Context, client *transfer.Client, host string) {
	ctx, cancel := context.WithTimeoutCause(ctx, hostPatience, fmt.Errorf("no answer within %v", hostPatience))
	defer cancel()
	_, err := client.Size(ctx, transfer.Request{Key: run.Key{Run: checkID, Kind: run.Images, ID: "check"}, URL: host})
	var f *transfer.Failure
	switch {
	case err == nil, errors.As(err, &f) && f.Status != 0: // what it says of its root is of no interest
		k.add("CDN", Good, "", "%s answers", host)
	case f != nil && f.Class == transfer.Rule:
		k.add("CDN", Bad, "where that is meant: download.allow_networks, download.allow_http", "%v", err)
	default:
		k.add("CDN", Bad, "look at the network, DNS, the firewall and download.proxy", "%s cannot be reached: %v", host, err)
	}
}

// assetHosts are the roots of hosts that assets wait at, those first whose URLs die
// first; where none waits, the one that the API is known to use.
func (k *checker) assetHosts(ctx context.Context) (roots []string, err error) {
	switch {
	case k.queue != nil:
		var waiting []run.Asset
		waiting, _, err = k.queue.Waiting(ctx, "", hostsLooked)
		for _, a := range waiting {
			roots = addRoot(roots, a.Source)
		}
	case k.running:
		roots, err = k.daemonsHosts(ctx)
	}
	if len(roots) == 0 && k.cfg.API.BaseURL == magnific.PublicURL {
		roots = []string{magnific.PublicCDN}
	}
	return roots, err
}

var errSeen = errors.New("seen enough")

// daemonsHosts asks the daemon that has the queue.
func (k *checker) daemonsHosts(ctx context.Context) (roots []string, err error) {
	client := server.NewClient(k.cfg.State.Socket())
	looked := 0
	err = client.Runs(ctx, server.Filter{States: []run.State{run.Downloading}}, "", func(r server.Run) error {
		whole, err := client.Run(ctx, r.RunID)
		if err != nil {
			return err
		}
		for _, a := range whole.AssetList {
			if a.State.Open() {
				roots = addRoot(roots, a.Source)
			}
		}
		if looked++; len(roots) == hostsAsked || looked == hostsAsked {
			return errSeen
		}
		return nil
	})
	if errors.Is(err, errSeen) || errors.Is(err, run.ErrUnknown) {
		err = nil
	}
	return roots, err
}

// addRoot adds the root of a URL's host.
func addRoot(roots []string, source string) []string {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" || len(roots) == hostsAsked {
		return roots
	}
	root := u.Scheme + "://" + u.Host + "/"
	if slices.Contains(roots, root) {
		return roots
	}
	return append(roots, root)
}

// backlog says what is still to be brought home, and whether time will do: that a
// running daemon measures.
func (k *checker) backlog(ctx context.Context) {
	if k.running {
		if s, err := server.NewClient(k.cfg.State.Socket()).Status(ctx); err == nil {
			k.backlogOf(s)
		}
		return // why it does not answer is a finding already
	}
	if k.queue == nil {
		return
	}
	counts, err := k.queue.Counts(ctx)
	if err != nil {
		return // the queue has its own finding
	}
	runs := counts.Runs[run.Waiting] + counts.Runs[run.Downloading]
	assets := counts.Assets[run.AssetWaiting]
	switch first, _, err := k.queue.Waiting(ctx, "", 1); {
	case err != nil:
	case runs == 0:
		k.add("backlog", Good, "", "nothing is waiting")
	case len(first) == 0:
		k.add("backlog", Note, "start the daemon: assetd run", "%s waiting", english.Plural(runs, "run is", "runs are"))
	default:
		k.add("backlog", Note, "start the daemon: assetd run", "%s of %s waiting, the first URL %s; how long they take shows when a daemon runs",
			english.Plural(assets, "asset", ""), english.Plural(runs, "run is", "runs are"), dies(first[0], time.Now()))
	}
}

// backlogOf is the backlog of a running daemon.
func (k *checker) backlogOf(s server.Status) {
	runs := s.Runs[run.Waiting] + s.Runs[run.Downloading]
	if runs == 0 {
		k.add("backlog", Good, "", "nothing is waiting")
		return
	}
	text := english.Plural(runs, "run is", "runs are") + " waiting"
	if n := s.Assets[run.AssetWaiting]; n > 0 {
		text = english.Plural(n, "asset", "") + " of " + text
	}
	if s.Link > 0 {
		text += fmt.Sprintf(", the link brings %s a second", humanize.IBytes(uint64(s.Link)))
	}
	short := false
	if s.Drain != nil && s.Slack != nil {
		short = *s.Slack < 0
		text += fmt.Sprintf(", what dies first takes %v and has %v more than that", s.Drain.Duration(), s.Slack.Duration())
	}
	switch {
	case s.AtRisk > 0:
		k.add("backlog", Bad, "assetd list --at-risk names their runs, and the log says what is in the way",
			"%s: %s may not be there before their URLs die", text, english.Plural(s.AtRisk, "asset", ""))
	case short:
		k.add("backlog", Note, "see who else uses the link, and download.max_rate", "%s", text)
	default:
		k.add("backlog", Good, "", "%s", text)
	}
}

func dies(a run.Asset, now time.Time) string {
	if a.Expiry.IsZero() {
		return "dies at an unknown time"
	}
	left := a.Expiry.Sub(now).Round(time.Minute)
	if left < 0 {
		return "died " + a.Expiry.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("dies in %v", left)
}
