package daemon

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

// checkID is asked for to see whether the key is accepted. It is no run's: SQIDs
// have no hyphen.
const checkID run.ID = "assetd-check"

// A difference of clocks that a person should know of, and one that no Date is
// believed with: then deadlines are reckoned by the local clock alone.
const (
	skewToTell  = 30 * time.Second
	skewToBlame = 24 * time.Hour
)

// apiKey says whether there is a key. A systemd credential is seen by the service
// alone: that it is not here is no fault where the daemon runs.
func (k *checker) apiKey(err error) {
	service := errors.Is(err, config.ErrServiceKey)
	k.itsKey = service || k.running && errors.Is(err, config.ErrNoKey)
	switch {
	case err == nil:
		k.add("key", Good, "", "there is one")
	case service:
		k.add("key", Note, "check as root, and the API is asked, too", "%v", err)
	case k.itsKey:
		k.add("key", Note, "", "none for this command; the daemon that runs has its own")
	case errors.Is(err, config.ErrNoKey):
		_, mend, _ := strings.Cut(config.ErrNoKey.Error(), ": ")
		k.add("key", Bad, mend, "there is none")
	default:
		k.add("key", Bad, "mend that, or give the key in another way: $ASSETD_API_KEY, api.key_file or the systemd credential api-key", "%v", err)
	}
}

// api asks the API once, and compares the clocks.
func (k *checker) api(ctx context.Context, offline bool) {
	switch {
	case offline:
		k.add("API", Note, "run assetd check without --offline", "not asked (--offline)")
		k.clockUnknown("the API was not asked (--offline)")
		return
	case k.itsKey:
		k.add("API", Note, "", "not asked: the key is the daemon's own, and whether it is accepted is part of its being ready")
		k.clockUnknown("the API was not asked")
		return
	case k.key == "":
		k.add("API", Bad, "give the key first", "not asked: there is no key")
		k.clockUnknown("the API was not asked, for lack of a key")
		return
	}
	clk := clock.New()
	client, err := magnific.New(pipeline.APIConfig(k.cfg), k.key, clk, func(run.Event) {})
	if err != nil {
		k.add("API", Bad, "mend api.base_url or api.proxy", "%v", err)
		k.clockUnknown("the API was not asked")
		return
	}
	defer client.Close()
	if k.queue != nil {
		client.Remember(k.queue.ID(), func(fingerprint string) bool {
			proven, err := k.queue.Proven(fingerprint)
			return err == nil && proven
		})
	}
	answer, err := client.Get(ctx, checkID)
	date := answer.Date
	var refusal *run.Refusal
	switch {
	case err == nil:
		k.add("API", Good, "", "%s accepts the key", client.Host())
	case errors.As(err, &refusal):
		date = refusal.Date
		k.refused(client, refusal)
	default:
		k.add("API", Bad, "check again", "%s: %v", client.Host(), err)
	}
	if date.IsZero() {
		k.clockUnknown("the API was not reached")
		return
	}
	k.clock(clk, client.Host(), date)
}

// refused says what a refusal tells about this machine's settings.
func (k *checker) refused(client *magnific.Client, r *run.Refusal) {
	host := client.Host()
	switch r.Kind {
	case run.NotFound, run.Rejected:
		k.notFound(client, r)
	case run.RateLimited:
		k.add("API", Note, "check again in some minutes", "%s has had too many requests and did not judge the key: %v", host, r)
	case run.Unauthorized, run.Forbidden:
		k.add("API", Bad, "set the key anew: $ASSETD_API_KEY, api.key_file or the credential api-key", "%s: %v", host, r)
	case run.Unreachable:
		mend := "look at the network, DNS, api.base_url and api.proxy"
		if strings.Contains(r.Error(), "certificate") {
			mend = "look at this machine's clock, its CA certificates, api.base_url and api.proxy"
		}
		k.add("API", Bad, mend, "%s: %v", host, r)
	case run.ServerError:
		k.add("API", Bad, "check again later: the trouble is the API's own, and a daemon waits for its end", "%s: %v", host, r)
	default:
		k.add("API", Bad, "look at api.base_url and api.runs_path", "%s: %v", host, r)
	}
}

// notFound is the answer for a run that nobody has. It says that the key was not
// refused, and no more: a wrong path is answered in the same way.
func (k *checker) notFound(client *magnific.Client, r *run.Refusal) {
	if k.queue != nil {
		if proven, err := k.queue.Proven(client.Fingerprint(k.queue.ID())); err == nil && proven {
			k.add("API", Good, "", "%s accepts the key, and has answered for a run under this URL, path and key before", client.Host())
			return
		}
	}
	k.add("API", Note,
		fmt.Sprintf("assetd get RUN-ID of a run that you know proves it; if that is not found either, compare api.base_url and api.runs_path (%s) with the API's documentation", pipeline.RunsPath(k.cfg)),
		"%s does not refuse the key, but answers %d to a run that nobody has, as it would to a wrong path: URL and path are not proven yet", client.Host(), r.Status)
}

// clock compares this machine's clock with the API's.
func (k *checker) clock(clk *clock.Clock, host string, date time.Time) {
	skew, known := clk.Skew(host)
	off := date.Sub(clk.Now())
	switch {
	case known && skew.Abs() <= skewToTell:
		k.add("clock", Good, "", "%v from %s's", skew.Abs(), host)
	case known:
		k.add("clock", Note, "let NTP set this machine's clock", "%s %s's: deadlines are reckoned by the server's", apart(skew), host)
	case off.Abs() >= skewToBlame:
		k.add("clock", Bad, "let NTP set this machine's clock: deadlines cannot be reckoned with this one", "%s %s's", apart(off), host)
	default:
		k.clockUnknown(host + "'s answer came slowly, out of a cache, or without a date")
	}
}

// apart says how far the local clock is from another, given how far that one is
// ahead.
func apart(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("%v ahead of", (-ahead).Round(time.Second))
	}
	return fmt.Sprintf("%v behind", ahead.Round(time.Second))
}

func (k *checker) clockUnknown(why string) {
	k.add("clock", Note, "let NTP keep it: deadlines are dates", "not compared: %s", why)
}
