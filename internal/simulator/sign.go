package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// TokenForm is how a token is written into a URL.
type TokenForm int

// The forms of a token.
const (
	Equals      TokenForm = iota // token=exp=<unix>~hmac=<64 hex>, as on the live CDN
	Underscores                  // token=exp_<unix>~hmac_<64 hex>, as in the documentation
	Encoded                      // as Equals, percent-encoded
	Fields                       // token=st=<unix>~exp=<unix>~acl=/private/*~data=<text>~hmac=<64 hex>
	Opaque                       // token=<base64>: the CDN knows when it dies, nobody else can
)

// Renewal is what a further poll does to a URL.
type Renewal int

// The renewals.
const (
	RenewNever  Renewal = iota // the same URL for ever
	RenewAlways                // a fresh one with each answer
	RenewNear                  // a fresh one when less than Near is left, or it is dead
)

// Signing is how URLs are signed. Given to a simulator it holds for all assets,
// given to AddRun for those of the run, given to an asset for that one.
type Signing struct {
	Form     TokenForm
	Life     time.Duration // from the answer to the URL's death; 0: 12 h
	Midnight bool          // death is put off to the next 00:00:00 UTC, so that many die in one second
	Dead     int           // the first so many answers carry URLs that died a minute ago
	Renewal  Renewal
	Near     time.Duration
	Query    string // further parameters, before the token: `preview=true&size=420`
}

func (g Signing) applySim(c *config)  { c.signing = &g }
func (g Signing) applyRun(r *script)  { r.signing = &g }
func (g Signing) applyAsset(a *asset) { a.signing = &g }

const usualLife = 12 * time.Hour

// expiry is when a URL dies that is signed at that time.
func (g *Signing) expiry(now time.Time) time.Time {
	life := g.Life
	if life == 0 {
		life = usualLife
	}
	at := now.Add(life).Truncate(time.Second)
	if g.Midnight {
		at = at.Add(24*time.Hour - 1).Truncate(24 * time.Hour)
	}
	return at.UTC()
}

// sign is the asset's URL as the next answer lists it. The caller holds s.mu.
func (s *Sim) sign(a *asset) string {
	switch {
	case a.url != nil:
		return *a.url
	case a.inline:
		return a.dataURL()
	}
	now := s.cdnTime()
	a.answers++
	g := a.signing
	switch {
	case a.answers <= g.Dead:
		a.expiry = now.Add(-time.Minute).Truncate(time.Second)
	case a.expiry.IsZero(), g.Dead > 0 && a.answers == g.Dead+1, g.Renewal == RenewAlways,
		g.Renewal == RenewNear && a.expiry.Sub(now) < max(g.Near, 1):
		a.expiry = g.expiry(now)
	}
	url := s.cdnURL + a.path + "?" + s.query(a, a.expiry)
	if !a.run.ended() {
		url = a.earlyURL(s.cdnURL, url)
	}
	if a.urlForm != nil {
		url = a.urlForm(url)
	}
	return url
}

// query is what the CDN wants to see, to the byte.
func (s *Sim) query(a *asset, expiry time.Time) string {
	exp, sum := expiry.Unix(), hex.EncodeToString(s.mac(a.path, expiry))
	var token string
	switch a.signing.Form {
	case Equals:
		token = fmt.Sprintf("exp=%d~hmac=%s", exp, sum)
	case Underscores:
		token = fmt.Sprintf("exp_%d~hmac_%s", exp, sum)
	case Encoded:
		token = fmt.Sprintf("exp%%3D%d%%7Ehmac%%3D%s", exp, sum)
	case Fields:
		token = fmt.Sprintf("st=%d~exp=%d~acl=/private/*~data=sim~hmac=%s", exp-int64(usualLife/time.Second), exp, sum)
	case Opaque:
		token = base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(s.mac(a.path, expiry), uint64(exp)))
	}
	query := "token=" + token
	if a.signing.Query != "" {
		query = a.signing.Query + "&" + query
	}
	return query
}

// mac signs a path and the end of its life.
func (s *Sim) mac(path string, expiry time.Time) []byte {
	h := hmac.New(sha256.New, s.secret)
	fmt.Fprintf(h, "exp=%d~path=%s", expiry.Unix(), path)
	return h.Sum(nil)
}

// admit judges the query of a request for a at that time: when its token dies,
// and why it is refused, if it is.
func (s *Sim) admit(a *asset, query string, now time.Time) (expiry time.Time, refused string) {
	expiry, sum, ok := readToken(query)
	switch {
	case !ok:
		return expiry, "no token"
	case !hmac.Equal(sum, s.mac(a.path, expiry)):
		return expiry, "signature"
	case query != s.query(a, expiry):
		return expiry, "token not sent as it came"
	case now.After(expiry):
		return expiry, "expired"
	}
	return expiry, ""
}

// readToken takes expiry and signature out of a query in any of the forms.
func readToken(query string) (expiry time.Time, sum []byte, ok bool) {
	for part := range strings.SplitSeq(query, "&") {
		token, found := strings.CutPrefix(part, "token=")
		if !found {
			continue
		}
		if plain, err := url.PathUnescape(token); err == nil {
			token = plain
		}
		if raw, err := base64.RawURLEncoding.DecodeString(token); err == nil && len(raw) == sha256.Size+8 {
			exp := binary.BigEndian.Uint64(raw[sha256.Size:])
			return time.Unix(int64(exp), 0), raw[:sha256.Size], true
		}
		for field := range strings.SplitSeq(token, "~") {
			if at := strings.IndexAny(field, "=_"); at >= 0 {
				switch value := field[at+1:]; field[:at] {
				case "exp":
					unix, err := strconv.ParseInt(value, 10, 64)
					expiry, ok = time.Unix(unix, 0), err == nil
				case "hmac":
					sum, _ = hex.DecodeString(value) // what is no hex is no signature
				}
			}
		}
		return expiry, sum, ok && len(sum) > 0
	}
	return time.Time{}, nil, false
}

func (s *Sim) apiTime() time.Time { return time.Now().Add(s.skewAPI) }

func (s *Sim) cdnTime() time.Time { return time.Now().Add(s.skewCDN) }

// URL is the asset's URL as the next answer would list it, token and all; it is
// for clients that do not poll. False: no such asset.
func (s *Sim) URL(key run.Key) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.assets[key]
	if !ok {
		return "", false
	}
	return s.sign(a), true
}
