package transfer

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/assetd/assetd/internal/run"
)

// headSize is how many of the first bytes say what a body is.
const headSize = 4 << 10

// rootBytes is how far into a text is looked for the root element of an SVG.
const rootBytes = 64 << 10

// leastMedia is a size, in bytes, below which there is no image, video or audio.
const leastMedia = 20

// media is what a body is, by its own bytes.
type media struct {
	mime    string // without parameters
	ext     string // with its dot; empty: none known
	kind    run.Kind
	either  bool   // a container that holds audio as well as video
	text    bool   // text, or an image written as text
	sure    bool   // by more than four bytes
	packed  bool   // compressed, and can be decoded
	refused string // why it is not media; empty: it is, or may be
	width   int    // pixels; 0: not known
	height  int

	found *mimetype.MIME
}

// judge says what a body is that starts with head. Not media is what is empty, what
// is text (HTML, JSON, XML but for SVG, plain text) in whatever Unicode encoding,
// and what is compressed: an error page does not become media by being packed, and
// nobody sees what it is. part holds the body as far as it has come.
func judge(head []byte, part io.ReaderAt, size int64) (m media) {
	defer func() {
		if p := recover(); p != nil { // the formats' readers meet hostile bytes
			m = media{mime: "application/octet-stream"}
		}
	}()
	if len(head) == 0 {
		return media{mime: "application/x-empty", refused: "the body is empty"}
	}
	m = identify(head, part, size)
	wide := wideText(head)
	if m.text || wide != nil && !m.sure {
		start := make([]byte, min(size, rootBytes))
		n, _ := part.ReadAt(start, 0)
		if start = start[:n]; wide != nil {
			start = wide.decode(start)
			m.mime = "text/plain in " + wide.name
		}
		svg, told := rootIsSVG(start)
		if svg || !told && m.found.Is("image/svg+xml") {
			m = named(mimetype.Lookup("image/svg+xml"))
			m.sure = true
			return m
		}
		m.refused = "the body is " + m.mime
		return m
	}
	if _, m.packed = outermost(head, nil); m.packed {
		return m
	}
	if !m.sure {
		m.refused = hollow(head, part, size)
	}
	for _, s := range sealed {
		if bytes.HasPrefix(head, []byte(s.magic)) && !m.sure {
			m.refused = "the body is compressed as " + s.name + " and cannot be decoded"
		}
	}
	return m
}

// hollow says why a body without a format's signature is nothing but text or nothing at
// all once its NULs are left out: a message from a buffer of fixed size, an object that
// was made and not written. Empty: it is not.
func hollow(head []byte, part io.ReaderAt, size int64) string {
	switch rest := bytes.ReplaceAll(head, []byte{0}, nil); {
	case len(rest) == len(head):
	case len(rest) == 0 && zeros(part, size):
		return "the body is nothing but zeros"
	case len(rest) > 0 && printable(rest) && text(mimetype.Detect(rest)):
		return "the body is text with NULs in it"
	}
	return ""
}

// zeros reports whether the part has nothing else.
func zeros(part io.ReaderAt, size int64) bool {
	p := make([]byte, rootBytes)
	for at := int64(0); at < size; at += int64(len(p)) {
		n, _ := part.ReadAt(p[:min(int64(len(p)), size-at)], at)
		if n == 0 || len(bytes.Trim(p[:n], "\x00")) > 0 {
			return false
		}
	}
	return true
}

func named(found *mimetype.MIME) media {
	m := media{mime: base(found.String()), ext: found.Extension(), found: found}
	m.kind, m.text = kindOf(m.mime), text(found)
	for _, container := range []string{"video/mp4", "video/webm", "video/matroska", "application/ogg", "video/x-ms-asf", "video/3gpp", "video/3gpp2", "video/quicktime"} {
		m.either = m.either || found.Is(container)
	}
	return m
}

// kindOf is the kind that a media type is of; empty: none.
func kindOf(mime string) run.Kind {
	top, sub, _ := strings.Cut(mime, "/")
	switch {
	case top == "image":
		return run.Images
	case top == "video":
		return run.Videos
	case top == "audio", sub == "ogg":
		return run.Audios
	}
	return ""
}

// base is a media type without its parameters.
func base(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

// text reports whether the type is text or an image written as XML.
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

// rootIsSVG reports whether a text is XML whose root element is svg, under whatever
// prefix, after declaration, document type and comments. told: there is a root, or text
// in its place; else what begins the document could not be read, or not to its end.
func rootIsSVG(text []byte) (svg, told bool) {
	text = bytes.TrimLeft(text, "\ufeff \t\r\n")
	if bytes.HasPrefix(text, []byte("<?xml")) { // whatever version and encoding it names
		_, text, _ = bytes.Cut(text, []byte("?>"))
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	for {
		token, err := d.RawToken()
		if err != nil {
			return false, false
		}
		switch token := token.(type) {
		case xml.StartElement:
			return token.Name.Local == "svg", true
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return false, true // text that has an element in it somewhere
			}
		}
	}
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
	return urlExtension(rawURL)
}

// warnings are what is odd about a body that is kept all the same.
func (m media) warnings(req Request, h http.Header) []string {
	var w []string
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
