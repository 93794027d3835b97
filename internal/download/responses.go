package download

import (
	"net/http"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// forAsset is what a response means for the asset and its run.
type forAsset uint8

const (
	again   forAsset = iota // it is tried again, later each time
	denied                  // the URL is refused though it should live: after the third time, while others of the host are answered, fresh URLs once an hour
	expired                 // the URL is refused as expired: fresh URLs for the run, at most every 30 s, and no try before; lost where the API gives no later one
	last                    // it looks final: after the second time fresh URLs for the run, at most every 30 s; lost after download.give_up_after
	ruled                   // our rules refuse it: lost at once
)

// forHost is what a response means for the host, see package backlog.
type forHost uint8

const (
	nothing     forHost = iota // there was no request, or it ended for our own sake
	answers                    // it answers, which opens it if it was closed
	errs                       // it answers with an error that need not be the asset's: no reason to close it, and none to open it
	undecided                  // it answers as it would in either state: the next asset is to tell
	slows                      // it is closed, and its pace lowered: unless this asset failed before while others were answered
	silent                     // it is closed: unless it answered others meanwhile, or this asset failed before while others were answered
	unreachable                // as silent, but for no asset's sake: probes come seldom from the beginning
)

// meaning is what a response means.
type meaning struct {
	asset forAsset
	host  forHost
}

// response is a row of the table: a kind of response, and what it means before the
// URL's expiry by the host's clock, after it, and where the expiry is not known.
type response struct {
	name                  string
	is                    func(*transfer.Failure) bool
	before, past, unknown meaning
}

// responses says what each kind of response means. The first row that fits counts.
// Whatever the row, a Retry-After delays the asset in full, up to its deadline, and
// its host by a minute at most. No row closes a host for good: it is probed with
// another asset, and the first success opens it.
var responses = []response{
	always("refused by our rules before a request", both(class(transfer.Rule), unanswered), meaning{ruled, nothing}),
	always("refused by our rules after a response", class(transfer.Rule), meaning{ruled, answers}),
	always("no URL, or none that can be read", class(transfer.Nothing), meaning{last, nothing}),
	always("part not written, no free space, stopped", class(transfer.Disk, transfer.NoRoom, transfer.Canceled), meaning{again, nothing}),

	always("429, 503", class(transfer.Throttled), meaning{again, slows}),
	{"400, 401, 403", refusal, meaning{denied, slows}, meaning{expired, undecided}, meaning{expired, errs}},
	{"404, 410, 451", class(transfer.Gone), meaning{last, answers}, meaning{expired, undecided}, meaning{last, answers}},
	always("408", timeout, meaning{again, errs}),
	{"other 4xx", clientError, meaning{again, errs}, meaning{expired, undecided}, meaning{again, errs}},
	always("other 5xx, or a status that is none of a download", class(transfer.Server), meaning{again, errs}),

	always("no media, redirects that lead nowhere, no proof of the end", class(transfer.NotMedia, transfer.RedirectLoop, unproven), meaning{last, answers}),
	always("malformed response", phase(transfer.Header), meaning{again, answers}),
	always("body cut, damaged or stalled", both(class(transfer.Network, transfer.Stall), answered), meaning{again, answers}),
	always("no connection: DNS, an address that is not public, connect, TLS, proxy", phase(transfer.Connecting), meaning{again, unreachable}),
	always("reset, closed or timed out before a response", class(transfer.Network, transfer.Stall), meaning{again, silent}),
}

// always is a row that means the same at any time.
func always(name string, is func(*transfer.Failure) bool, m meaning) response {
	return response{name, is, m, m, m}
}

func class(some ...transfer.Class) func(*transfer.Failure) bool {
	return func(f *transfer.Failure) bool {
		for _, c := range some {
			if f.Class == c {
				return true
			}
		}
		return false
	}
}

// refusal is a URL that is not accepted. 400 is what Google Cloud Storage answers to an
// expired token.
func refusal(f *transfer.Failure) bool {
	return f.Class == transfer.Refused || f.Class == transfer.Server && f.Status == http.StatusBadRequest
}

func timeout(f *transfer.Failure) bool {
	return f.Class == transfer.Server && f.Status == http.StatusRequestTimeout
}

func clientError(f *transfer.Failure) bool {
	return f.Class == transfer.Server && f.Status >= 400 && f.Status < 500
}

func phase(p transfer.Phase) func(*transfer.Failure) bool {
	return func(f *transfer.Failure) bool { return f.Phase == p }
}

func unanswered(f *transfer.Failure) bool { return f.Status == 0 }
func answered(f *transfer.Failure) bool   { return f.Status != 0 }

func both(a, b func(*transfer.Failure) bool) func(*transfer.Failure) bool {
	return func(f *transfer.Failure) bool { return a(f) && b(f) }
}

// rowOf is the row that fits the failure; there is one for every class.
func rowOf(f *transfer.Failure) response {
	for _, r := range responses {
		if r.is(f) {
			return r
		}
	}
	return always("unknown", nil, meaning{again, nothing})
}

// means is what the failure means for the asset at that moment.
func means(f *transfer.Failure, a run.Asset, m moment) meaning {
	r := rowOf(f)
	switch {
	case m.urlExpired(a):
		return r.past
	case a.Expiry.IsZero():
		return r.unknown
	}
	return r.before
}

// expires reports whether the URL's expiry may be the reason of the failure.
func expires(f *transfer.Failure) bool { return rowOf(f).past.asset == expired }
