package download

import (
	"net/http"

	"github.com/assetd/assetd/internal/transfer"
)

// refusedResumes is how many refusals in a row end the attempts to resume a part:
// the first may be a server's bad moment.
const refusedResumes = 2

// requestForm is what the answers to an asset's requests show about how its server
// wants to be asked. Some refuse every Range, or every If-Range, and serve the whole
// object. It outlives a renewed URL, which leads to the same server. It is not kept
// across restarts: that costs one refused request.
type requestForm struct {
	plain   bool // ask without Range next time
	refused int  // resumes, in a row
}

// learn takes in the failure of a request. expired says that its URL was past its
// expiry.
//
// A refused Range is asked for without next time; if that is refused as well it was
// not the Range, and the next request has one again. A refusal that has a cause of
// its own (throttling, an expired token) shows nothing.
func (k *requestForm) learn(f *transfer.Failure, expired bool) {
	malformed := f.Phase == transfer.Header
	switch refused := f.Status >= 300 || f.Class == transfer.Server || f.Class == transfer.NotMedia || malformed; {
	case f.SHA256 != "":
		k.plain = true // a second opinion that ranges have no part in
	case f.Status == 0 && !malformed, throttles(f), expired && f.Status/100 == 4:
	case f.Resumed && refused:
		if k.refused++; f.Status == http.StatusPreconditionFailed {
			k.refused = refusedResumes
		}
		k.plain = k.refused >= refusedResumes
	case f.Ranged && refused:
		k.plain = true
	case refused:
		k.plain = false
	case f.Resumed:
		k.refused = 0
	case k.refused < refusedResumes:
		k.plain = false // what came can be resumed
	}
}

// throttles reports whether the server wants fewer requests.
func throttles(f *transfer.Failure) bool {
	return f.Status == http.StatusTooManyRequests || f.Status == http.StatusServiceUnavailable && f.RetryAfter > 0
}

// plain reports whether the asset is to be asked for without Range.
func (w *attempt) plain() bool {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.notes(w.asset).form.plain
}

func (w *attempt) learnForm(f *transfer.Failure, m moment) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.notes(w.asset).form.learn(f, m.urlExpired(w.asset))
}
