package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/transfer"
)

const (
	maxHosts    = 3                // are asked
	maxAssets   = 500              // waiting ones are searched for hosts
	hostTimeout = 10 * time.Second // for the answer of a host
)

// cdn checks whether the hosts of waiting assets can be reached from here. It requests
// their root, which needs no signed URL.
func (d *doctor) cdn(ctx context.Context, offline bool) {
	if offline {
		d.add("CDN", Note, "run assetd check without --offline", "not asked (--offline)")
		return
	}
	client, err := transfer.New(pipeline.TransferConfig(d.cfg), clock.New())
	if err != nil {
		d.add("CDN", Bad, "correct download.proxy", "%v", err)
		return
	}
	defer client.Close()
	hosts, err := d.assetHosts(ctx)
	if err != nil {
		d.add("CDN", Note, "check again", "no host was asked: %v", err)
		return
	}
	if len(hosts) == 0 {
		d.add("CDN", Note, "", "not asked: no asset waits, so no host is known")
		return
	}
	for _, h := range hosts {
		d.reach(ctx, client, h)
	}
}

// reach requests a host's root.
func (d *doctor) reach(ctx context.Context, client *transfer.Client, host string) {
	ctx, cancel := context.WithTimeoutCause(ctx, hostTimeout, fmt.Errorf("no answer within %v", hostTimeout))
	defer cancel()
	_, err := client.Size(ctx, transfer.Request{Key: run.Key{Run: checkID, Kind: run.Images, ID: "check"}, URL: host})
	var f *transfer.Failure
	switch {
	case err == nil, errors.As(err, &f) && f.Status != 0: // any answer will do
		d.add("CDN", Good, "", "%s answers", host)
	case f != nil && f.Class == transfer.Rule:
		d.add("CDN", Bad, "where that is meant: download.allow_networks, download.allow_http", "%v", err)
	default:
		d.add("CDN", Bad, "look at the network, DNS, the firewall and download.proxy", "%s cannot be reached: %v", host, err)
	}
}

// assetHosts returns the roots of the hosts of waiting assets, earliest expiry first. If
// none waits, it is the one that the API is known to use.
func (d *doctor) assetHosts(ctx context.Context) (roots []string, err error) {
	switch {
	case d.queue != nil:
		var waiting []run.Asset
		waiting, _, err = d.queue.Waiting(ctx, "", maxAssets)
		for _, a := range waiting {
			roots = addRoot(roots, a.Source)
		}
	case d.running:
		roots, err = d.daemonsHosts(ctx)
	}
	if len(roots) == 0 && d.cfg.API.BaseURL == magnific.PublicURL {
		roots = []string{magnific.PublicCDN}
	}
	return roots, err
}

var errEnough = errors.New("enough hosts")

// daemonsHosts asks the running daemon, which has the queue.
func (d *doctor) daemonsHosts(ctx context.Context) (roots []string, err error) {
	client := server.NewClient(d.cfg.State.Socket())
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
		if looked++; len(roots) == maxHosts || looked == maxHosts {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || errors.Is(err, run.ErrUnknown) {
		err = nil
	}
	return roots, err
}

// addRoot adds the root of a URL's host, unless it is there or there are enough.
func addRoot(roots []string, source string) []string {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" || len(roots) == maxHosts {
		return roots
	}
	root := u.Scheme + "://" + u.Host + "/"
	if slices.Contains(roots, root) {
		return roots
	}
	return append(roots, root)
}
