package media

import (
	"fmt"
	"mime"

	"github.com/assetd/assetd/internal/run"
)

// Announced is what the API and the server said of a body.
type Announced struct {
	Kind          run.Kind
	Width, Height *int   // pixels; nil, 0 or less: not known
	ContentType   string // as the server sent it
}

// Warnings lists where a body that is kept differs from what was announced.
func (m Type) Warnings(a Announced) []string {
	var w []string
	switch {
	case m.MIME == "application/octet-stream":
		w = append(w, "of no format that is known")
	case m.Kind != a.Kind && !(m.eitherKind && a.Kind == run.Audios):
		w = append(w, fmt.Sprintf("announced among the %s, but is %s", a.Kind, m.MIME))
	}
	if sent, _, err := mime.ParseMediaType(a.ContentType); err == nil && m.contradicts(sent) {
		const most = 60 // bytes
		w = append(w, fmt.Sprintf("sent as %q, but is %s", sent[:min(len(sent), most)], m.MIME))
	}
	if m.otherSize(a) {
		w = append(w, fmt.Sprintf("is %dx%d pixels, announced as %sx%s", m.Width, m.Height, pixels(a.Width), pixels(a.Height)))
	}
	return w
}

// otherSize reports whether width or height differ from the announced ones. A picture on
// its side is the same picture: a camera's orientation, a player's rotation.
func (m Type) otherSize(a Announced) bool {
	if m.Width == 0 || m.Height == 0 {
		return false
	}
	same := func(w, h int) bool {
		return (a.Width == nil || *a.Width <= 0 || *a.Width == w) && (a.Height == nil || *a.Height <= 0 || *a.Height == h)
	}
	return !same(m.Width, m.Height) && !same(m.Height, m.Width)
}

func pixels(n *int) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}
