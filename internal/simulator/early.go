package simulator

import (
	"net/http"
	"strings"
	"sync"
)

// Early is what an asset is before its run has ended, where it is listed then
// (Phase.Lists): not what it is in the end. It is an AssetOption.
type Early int

// The ways to be something else.
const (
	EarlyPreview Early = iota + 1 // its URL has `&preview=true&size=420`, and gives a smaller object
	EarlyPath                     // its URL has another path, and gives another object
	EarlyPart                     // its URL gives the first half of the object
	EarlyMissing                  // its URL answers 404
)

func (e Early) applyAsset(a *asset) { a.early = e }

// How the URLs of what is early differ from the asset's own.
const (
	previewQuery = "&preview=true&size=420"
	earlyPrefix  = "/drafts"
)

// ended reports whether the API has said that the run is at its end.
func (r *script) ended() bool { return !r.completed.IsZero() }

// earlyURL is the asset's URL as it is listed before the run has ended.
func (a *asset) earlyURL(cdn, url string) string {
	switch a.early {
	case EarlyPreview:
		return url + previewQuery
	case EarlyPath:
		return cdn + earlyPrefix + strings.TrimPrefix(url, cdn)
	}
	return url
}

// takeEarly takes from the request what makes it one for the early object, and
// reports whether it is.
func (a *asset) takeEarly(prefixed bool, query string) (rest string, early bool) {
	switch a.early {
	case EarlyPreview:
		return strings.CutSuffix(query, previewQuery)
	case EarlyPath:
		return query, prefixed
	case EarlyPart, EarlyMissing:
		return query, !a.run.ended()
	}
	return query, false
}

// serveEarly makes the early object the one that is served. False: there is none, and
// the answer says so.
func (x *exchange) serveEarly() bool {
	a := x.asset
	if a.early == EarlyMissing {
		x.refuse(http.StatusNotFound, "not written yet")
		return false
	}
	if a.draft == nil {
		c := a.now.first(a.now.size / 2)
		if a.early != EarlyPart {
			if other, err := a.object(0, a.seed+forEver, x.sim.encode); err == nil {
				c = other
			}
		}
		a.draft = &version{content: c, etag: strings.TrimSuffix(a.now.etag, `"`) + `-early"`, hash: sync.OnceValue(c.sum)}
	}
	x.object, x.etag = a.draft, a.draft.etag
	return true
}
