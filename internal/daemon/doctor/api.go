package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/run"
)

// checkID is asked for to see whether the key is accepted. No run has it: SQIDs have no
// hyphen.
const checkID run.ID = "assetd-check"

const (
	// skewNote is the difference of clocks that is worth a note.
	skewNote = 30 * time.Second
	// skewBad is the difference at which the API's clock is not used any more, so that
	// deadlines depend on the local clock alone.
	skewBad = 24 * time.Hour
)

// apiKey checks whether there is a key. Only the service sees a systemd credential: that it
// is missing here is no fault if the daemon runs.
func (d *doctor) apiKey(err error) {
	service := errors.Is(err, config.ErrServiceKey)
	d.daemonKey = service || d.running && errors.Is(err, config.ErrNoKey)
	switch {
	case err == nil:
		d.add("key", Good, "", "there is one")
	case service:
		d.add("key", Note, "check as root, and the API is asked, too", "%v", err)
	case d.daemonKey:
		d.add("key", Note, "", "none for this command; the daemon that runs has its own")
	case errors.Is(err, config.ErrNoKey):
		_, hint, _ := strings.Cut(config.ErrNoKey.Error(), ": ")
		d.add("key", Bad, hint, "there is none")
	default:
		d.add("key", Bad, "fix that, or give the key in another way: $ASSETD_API_KEY, api.key_file or the systemd credential api-key", "%v", err)
	}
}

// api asks the API once and compares the clocks.
func (d *doctor) api(ctx context.Context, offline bool) {
	switch {
	case offline:
		d.add("API", Note, "run assetd check without --offline", "not asked (--offline)")
		d.clockUnknown("the API was not asked (--offline)")
		return
	case d.daemonKey:
		d.add("API", Note, "", "not asked: the key is the daemon's own, and whether it is accepted is part of its being ready")
		d.clockUnknown("the API was not asked")
		return
	case d.key == "":
		d.add("API", Bad, "give the key first", "not asked: there is no key")
		d.clockUnknown("the API was not asked, for lack of a key")
		return
	}
	clk := clock.New()
	client, err := magnific.New(pipeline.APIConfig(d.cfg), d.key, clk, func(run.Event) {})
	if err != nil {
		d.add("API", Bad, "correct api.base_url or api.proxy", "%v", err)
		d.clockUnknown("the API was not asked")
		return
	}
	defer client.Close()
	if d.queue != nil {
		client.Remember(d.queue.ID(), func(fingerprint string) bool {
			proven, err := d.queue.Proven(fingerprint)
			return err == nil && proven
		})
	}
	answer, err := client.Get(ctx, checkID)
	date := answer.Date
	var refusal *run.Refusal
	switch {
	case err == nil:
		d.add("API", Good, "", "%s accepts the key", client.Host())
	case errors.As(err, &refusal):
		date = refusal.Date
		d.refused(client, refusal)
	default:
		d.add("API", Bad, "check again", "%s: %v", client.Host(), err)
	}
	if date.IsZero() {
		d.clockUnknown("the API was not reached")
		return
	}
	d.clock(clk, client.Host(), date)
}

// refused adds what an API error says about this machine's settings.
func (d *doctor) refused(client *magnific.Client, r *run.Refusal) {
	host := client.Host()
	switch r.Kind {
	case run.NotFound, run.Rejected:
		d.notFound(client, r)
	case run.RateLimited:
		d.add("API", Note, "check again in some minutes", "%s has had too many requests and did not judge the key: %v", host, r)
	case run.Unauthorized, run.Forbidden:
		d.add("API", Bad, "set the key anew: $ASSETD_API_KEY, api.key_file or the credential api-key", "%s: %v", host, r)
	case run.Unreachable:
		mend := "look at the network, DNS, api.base_url and api.proxy"
		if strings.Contains(r.Error(), "certificate") {
			mend = "look at this machine's clock, its CA certificates, api.base_url and api.proxy"
		}
		d.add("API", Bad, mend, "%s: %v", host, r)
	case run.ServerError:
		d.add("API", Bad, "check again later: the trouble is the API's own, and a daemon waits for its end", "%s: %v", host, r)
	default:
		d.add("API", Bad, "look at api.base_url and api.runs_path", "%s: %v", host, r)
	}
}

// notFound adds what a 404 for checkID says: the key was not refused, and no more, since a
// wrong path is answered in the same way.
func (d *doctor) notFound(client *magnific.Client, r *run.Refusal) {
	if d.queue != nil {
		if proven, err := d.queue.Proven(client.Fingerprint(d.queue.ID())); err == nil && proven {
			d.add("API", Good, "", "%s accepts the key, and has answered for a run under this URL, path and key before", client.Host())
			return
		}
	}
	d.add("API", Note,
		fmt.Sprintf("assetd get RUN-ID of a run that you know proves it; if that is not found either, compare api.base_url and api.runs_path (%s) with the API's documentation", pipeline.RunsPath(d.cfg)),
		"%s does not refuse the key, but answers %d to a run that nobody has, as it would to a wrong path: URL and path are not proven yet", client.Host(), r.Status)
}

// clock compares this machine's clock with the API's.
func (d *doctor) clock(clk *clock.Clock, host string, date time.Time) {
	skew, known := clk.Skew(host)
	off := date.Sub(clk.Now())
	switch {
	case known && skew.Abs() <= skewNote:
		d.add("clock", Good, "", "%v from %s's", skew.Abs(), host)
	case known:
		d.add("clock", Note, "let NTP set this machine's clock", "%s %s's: deadlines follow the server's", apart(skew), host)
	case off.Abs() >= skewBad:
		d.add("clock", Bad, "let NTP set this machine's clock: deadlines cannot follow this one", "%s %s's", apart(off), host)
	default:
		d.clockUnknown(host + "'s answer came slowly, out of a cache, or without a date")
	}
}

// apart describes the offset of the local clock from another one that is ahead of it by
// this much.
func apart(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("%v ahead of", (-ahead).Round(time.Second))
	}
	return fmt.Sprintf("%v behind", ahead.Round(time.Second))
}

func (d *doctor) clockUnknown(why string) {
	d.add("clock", Note, "let NTP keep it: deadlines are dates", "not compared: %s", why)
}
