package run

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// Kind is what an asset is, in the API's word.
type Kind string

// The kinds of the API.
const (
	Images Kind = "images"
	Videos Kind = "videos"
	Audios Kind = "audios"
)

// Kinds lists all kinds in the order manifests use.
func Kinds() []Kind { return []Kind{Images, Videos, Audios} }

// Key names an asset: (run, kind, id). The id is the API's, of any bytes, or
// `<kind>-<index>` where the API gave none.
type Key struct {
	Run  ID     `json:"run"`
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`
}

// String is run/kind/id, for messages.
func (k Key) String() string { return string(k.Run) + "/" + string(k.Kind) + "/" + k.ID }

// Hash is the first 20 hex digits of the key's SHA-256: a name for the asset's
// part and quarantine files that nothing in the key can break.
func (k Key) Hash() string {
	sum := sha256.Sum256([]byte(string(k.Run) + "\x00" + string(k.Kind) + "\x00" + k.ID))
	return hex.EncodeToString(sum[:10])
}

// UnknownLife is how long a URL whose expiry cannot be read is taken to live,
// from the moment it was first seen.
const UnknownLife = 12 * time.Hour

// Asset is what the queue knows of an asset. It never holds a URL with its
// query: those stand in the answer files alone.
type Asset struct {
	Key   Key        `json:"key"`
	State AssetState `json:"state"`
	Index int        `json:"index,omitempty"` // from 1 within the kind, in the first terminal answer's order; 0: none yet

	Tool      string   `json:"tool,omitempty"`
	Width     *int     `json:"width,omitempty"`    // pixels
	Height    *int     `json:"height,omitempty"`   // pixels
	Duration  *float64 `json:"duration,omitempty"` // seconds
	CreatedAt string   `json:"created_at,omitempty"`

	// The URL last answered: scheme, host and path; a hash that tells two URLs
	// apart; when it was first seen (API's clock); when it dies (zero: unknown).
	Source    string    `json:"source,omitempty"`
	URLHash   string    `json:"url_hash,omitempty"`
	FirstSeen time.Time `json:"first_seen,omitzero"`
	Expiry    time.Time `json:"expiry,omitzero"`

	Unlisted bool `json:"unlisted,omitempty"` // the answer that ended its run lists it no more

	Attempts  int      `json:"attempts,omitempty"`
	Evidence  Evidence `json:"evidence,omitzero"`
	LastError string   `json:"last_error,omitempty"` // redacted

	Quarantine string `json:"quarantine,omitempty"` // where what came and was not media lies, below storage.dir, slashes

	Provisional *Provisional `json:"provisional,omitempty"` // from `provisional` until it is stored

	Stored *Stored `json:"stored,omitempty"` // from `verified` on
	Loss   *Loss   `json:"loss,omitempty"`   // while `lost`
	Marked bool    `json:"marked,omitempty"` // found damaged by verify; mended by retry
}

// Death is when the asset's URL dies: its expiry, or first seen + 12 h where the
// expiry is unknown.
func (a Asset) Death() time.Time {
	if a.Expiry.IsZero() {
		return a.FirstSeen.Add(UnknownLife)
	}
	return a.Expiry
}

// Deadline is death − min(margin, a quarter of the life left when the URL was
// first seen). An unknown expiry counts as "soon": its deadline is when it was
// first seen. It orders and warns; it ends nothing.
func (a Asset) Deadline(margin time.Duration) time.Time {
	if a.Expiry.IsZero() {
		return a.FirstSeen
	}
	if quarter := a.Expiry.Sub(a.FirstSeen) / 4; quarter < margin {
		margin = max(quarter, 0)
	}
	return a.Expiry.Add(-margin)
}

// Evidence is what speaks for giving an asset up, kept across restarts.
type Evidence struct {
	Finals      int       `json:"finals,omitempty"`       // answers that looked final
	FinalFor    Stopwatch `json:"final_for,omitzero"`     // for how long
	Anew        bool      `json:"anew,omitempty"`         // the URL at hand was fetched anew after the second of them
	FinalAnew   bool      `json:"final_anew,omitempty"`   // one of them came on such a URL
	Refusals    int       `json:"refusals,omitempty"`     // 401 and 403 on the URL at hand
	NoLaterURL  bool      `json:"no_later_url,omitempty"` // a poll answered after death without a later URL
	UnprovenSum string    `json:"unproven_sum,omitempty"` // SHA-256 of the last body without proof of its end, or that its digest contradicts
}

// Provisional is what was fetched of an asset before its run ended: whole bytes in
// the volume that have no final name, and what tells at the end of the run whether
// they are the result.
type Provisional struct {
	Size         int64     `json:"size"`   // bytes
	SHA256       string    `json:"sha256"` // hex
	Ext          string    `json:"ext,omitempty"`
	ContentType  string    `json:"content_type,omitempty"`
	DownloadedAt time.Time `json:"downloaded_at"`
	Warnings     []string  `json:"warnings,omitempty"`

	Object    string `json:"object,omitempty"`    // signedurl.Object of the URL it came from; empty: it must be fetched again
	Preview   bool   `json:"preview,omitempty"`   // that URL was of a reduced rendition
	Validator string `json:"validator,omitempty"` // ETag or Last-Modified of the answer; empty: it had none
}

// Whole is the provisional bytes as those of a whole part.
func (p Provisional) Whole(key Key) Whole {
	return Whole{
		Key: key, Size: p.Size, SHA256: p.SHA256, Ext: p.Ext, ContentType: p.ContentType,
		Warnings: slices.Clone(p.Warnings), At: p.DownloadedAt,
	}
}

// Stored is what is known of an asset whose bytes are whole.
type Stored struct {
	File         string    `json:"file"`   // relative to the run's directory, slashes
	Size         int64     `json:"size"`   // bytes
	SHA256       string    `json:"sha256"` // hex
	ContentType  string    `json:"content_type,omitempty"`
	DownloadedAt time.Time `json:"downloaded_at"`
	Warnings     []string  `json:"warnings,omitempty"`
}

// Loss says which rule of the design (4.4) ended an asset, and when.
type Loss struct {
	Rule   LossRule  `json:"rule"`
	Reason string    `json:"reason"` // redacted, for people
	At     time.Time `json:"at"`
}

// LossRule is one of the four ways an asset can be lost.
type LossRule string

// The four ways, and no fifth.
const (
	LossRefused LossRule = "refused" // (a) scheme, network, size: the rules refuse it
	LossFinal   LossRule = "final"   // (b) its answers looked final for give_up_after
	LossExpired LossRule = "expired" // (c) the URL died and polling gave no later one
	LossTime    LossRule = "time"    // (d) not stored within lost_after
)
