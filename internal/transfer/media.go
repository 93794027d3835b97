package transfer

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/assetd/assetd/internal/run"
)

// headSize is how many of the first bytes say what a body is.
const headSize = 4 << 10

// rootBytes is how far into a text is looked for the root element of an SVG.
const rootBytes = 64 << 10

// media is what a body is, by its own bytes.
type media struct {
	mime    string // without parameters
	ext     string // with its dot; empty: none known
	kind    run.Kind
	either  bool   // a container that holds audio as well as video
	refused string // why it is not media; empty: it is, or may be
	width   int    // pixels; 0: not known
	height  int

	found *mimetype.MIME
}

// judge says what a body is that starts with head. Not media is what is empty or
// text: HTML, JSON, XML but for SVG, plain text. encoded is the Content-Encoding
// that came though identity was asked for: such a body is kept as sent, but an
// error page does not become media by being packed. from gives the body's start
// for a longer look.
func judge(head []byte, encoded string, from func() io.Reader) (m media) {
	defer func() {
		if p := recover(); p != nil { // the formats' readers meet hostile bytes
			m = media{mime: "application/octet-stream"}
		}
	}()
	if len(head) == 0 {
		return media{mime: "application/x-empty", refused: "the body is empty"}
	}
	m = named(mimetype.Detect(head))
	if text(m.found) {
		if m.found.Is("image/svg+xml") {
			return m
		}
		if rootIsSVG(from()) {
			return named(mimetype.Lookup("image/svg+xml"))
		}
		m.refused = "the body is " + m.mime
		return m
	}
	if inner := unpack(head, encoded); len(inner) > 0 {
		if packed := mimetype.Detect(inner); text(packed) && !packed.Is("image/svg+xml") {
			m.refused = fmt.Sprintf("the body is %s, packed as %s", base(packed.String()), encoded)
		}
	}
	return m
}

func named(found *mimetype.MIME) media {
	m := media{mime: base(found.String()), ext: found.Extension(), found: found}
	top, sub, _ := strings.Cut(m.mime, "/")
	switch {
	case top == "image":
		m.kind = run.Images
	case top == "video":
		m.kind = run.Videos
	case top == "audio", sub == "ogg":
		m.kind = run.Audios
	}
	for _, container := range []string{"video/mp4", "video/webm", "video/matroska", "application/ogg", "video/x-ms-asf", "video/3gpp", "video/3gpp2", "video/quicktime"} {
		m.either = m.either || found.Is(container)
	}
	return m
}

// base is a media type without its parameters.
func base(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

// text reports whether the type is text and no image written as text.
func text(m *mimetype.MIME) bool {
	if m.Is("application/vnd.apple.mpegurl") {
		return true // a playlist: it names media elsewhere
	}
	if strings.HasPrefix(m.String(), "image/") && !m.Is("image/svg+xml") {
		return false // netpbm's letters are an image
	}
	for ; m != nil; m = m.Parent() {
		if m.Is("text/plain") {
			return true
		}
	}
	return false
}

// rootIsSVG reports whether a text is XML whose root element is svg, behind
// whatever declaration and comments.
func rootIsSVG(r io.Reader) bool {
	d := xml.NewDecoder(io.LimitReader(r, rootBytes))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	for {
		token, err := d.RawToken()
		if err != nil {
			return false
		}
		switch token := token.(type) {
		case xml.StartElement:
			return token.Name.Local == "svg"
		case xml.CharData:
			if len(bytes.Trim(token, "\ufeff \t\r\n")) > 0 {
				return false // text that has an element in it somewhere
			}
		}
	}
}

// unpack gives the first bytes of a packed body, as far as this packing is known.
func unpack(head []byte, encoded string) []byte {
	var r io.Reader
	var err error
	switch encoded {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(head))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(head))
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	inner, _ := io.ReadAll(io.LimitReader(r, headSize)) // the head ends in mid-stream
	return inner
}

// extension is from what the bytes are, else from the content type, else from
// the URL's path; empty where none of them tells one.
func (m media) extension(contentType, rawURL string) string {
	if m.ext != "" {
		return m.ext
	}
	if told := mimetype.Lookup(contentType); told != nil && told.Extension() != "" && !text(told) {
		return told.Extension()
	}
	t, err := parseTarget(rawURL)
	if err != nil {
		return ""
	}
	ext := strings.ToLower(path.Ext(t.path))
	if len(ext) < 2 || len(ext) > 9 || strings.Trim(ext[1:], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return ""
	}
	return ext
}

// warnings are what is odd about a body that is kept all the same.
func (m media) warnings(req Request, h http.Header) []string {
	var w []string
	if encoded := encoding(h); encoded != "" {
		w = append(w, "sent with Content-Encoding "+quote(encoded)+" though none was asked for, stored as sent")
	}
	switch {
	case m.mime == "application/octet-stream":
		w = append(w, "of no format that is known")
	case m.kind != req.Key.Kind && !(m.either && req.Key.Kind == run.Audios):
		w = append(w, fmt.Sprintf("announced among the %s, but is %s", req.Key.Kind, m.mime))
	}
	if told, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && m.contradicts(told) {
		w = append(w, fmt.Sprintf("sent as %s, but is %s", quote(told), m.mime))
	}
	if m.otherSize(req) {
		w = append(w, fmt.Sprintf("is %dx%d pixels, announced as %sx%s", m.width, m.height, pixels(req.Width), pixels(req.Height)))
	}
	return w
}

// contradicts reports whether a content type says something else than the bytes.
// One that says nothing in particular contradicts nothing.
func (m media) contradicts(told string) bool {
	if m.found == nil || m.mime == "application/octet-stream" {
		return false
	}
	top, sub, _ := strings.Cut(told, "/")
	if (top == "application" || top == "binary") && (strings.HasPrefix(sub, "octet-stream") || strings.HasPrefix(sub, "x-") || strings.HasPrefix(sub, "force-")) {
		return false
	}
	for found := m.found; found != nil; found = found.Parent() {
		if found.Is(told) {
			return false
		}
	}
	known := mimetype.Lookup(told)
	for ; known != nil; known = known.Parent() { // a finer word for the same, as apng for png
		if known.Is(m.mime) {
			return false
		}
	}
	return told != "image/jpg" && told != m.mime
}

// otherSize reports whether width or height differ from the announced ones. A
// picture on its side is the same picture: a camera's orientation, a player's
// rotation.
func (m media) otherSize(req Request) bool {
	if m.width == 0 || m.height == 0 {
		return false
	}
	same := func(w, h int) bool {
		return (req.Width == nil || *req.Width <= 0 || *req.Width == w) && (req.Height == nil || *req.Height <= 0 || *req.Height == h)
	}
	return !same(m.width, m.height) && !same(m.height, m.width)
}

func pixels(n *int) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}
