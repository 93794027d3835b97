// Package media says what the bytes of a body are: its format, media type, file
// extension and dimensions, whether it is compressed, whether it is media at all, and
// whether a file is complete by its own account.
//
// It reads bytes and nothing else, makes no requests and keeps no state: everything in
// it is safe for concurrent use and never panics, whatever the bytes. The bytes decide;
// a content type or a URL only names what has no signature.
package media

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/assetd/assetd/internal/run"
)

// HeadSize is how many of the first bytes say what a body is.
const HeadSize = 4 << 10

// rootBytes is how far into a text is looked for the root element of an SVG.
const rootBytes = 64 << 10

// leastMedia is the size, in bytes, below which no body is an image, video or audio.
const leastMedia = 20

// Type is what a body is, by its own bytes.
type Type struct {
	MIME    string   // without parameters
	Ext     string   // with its dot; empty: none known
	Kind    run.Kind // empty: none of the kinds
	Sure    bool     // by more than four bytes
	Encoded bool     // compressed, and can be decoded: see Outermost
	Refused string   // why it is not media; empty: it is, or may be
	Width   int      // pixels; 0: not known
	Height  int

	eitherKind bool // a container that holds audio as well as video
	text       bool // text, or an image written as text
	found      *mimetype.MIME
}

// Identify reports the type of a body that starts with head, its first HeadSize bytes or
// all of it. body holds size bytes, as many as have come. Refused is set for what is
// empty, for text (HTML, JSON, XML other than SVG, plain text) in any Unicode encoding,
// and for what is compressed and cannot be decoded.
func Identify(head []byte, body io.ReaderAt, size int64) (m Type) {
	defer func() {
		if p := recover(); p != nil { // the formats' readers meet hostile bytes
			m = Type{MIME: "application/octet-stream"}
		}
	}()
	if len(head) == 0 {
		return Type{MIME: "application/x-empty", Refused: "the body is empty"}
	}
	m = sniff(head, body, size)
	wide := wideText(head)
	if m.text || wide != nil && !m.Sure {
		start := make([]byte, min(size, rootBytes))
		n, _ := body.ReadAt(start, 0)
		if start = start[:n]; wide != nil {
			start = wide.decode(start)
			m.MIME = "text/plain in " + wide.name
		}
		svg, known := rootIsSVG(start)
		if svg || !known && m.found.Is("image/svg+xml") {
			m = named(mimetype.Lookup("image/svg+xml"))
			m.Sure = true
			return m
		}
		m.Refused = "the body is " + m.MIME
		return m
	}
	if _, m.Encoded = Outermost(head, nil); m.Encoded {
		return m
	}
	if !m.Sure {
		m.Refused = hollow(head, body, size)
	}
	for _, s := range sealed {
		if bytes.HasPrefix(head, []byte(s.magic)) && !m.Sure {
			m.Refused = "the body is compressed as " + s.name + " and cannot be decoded"
		}
	}
	return m
}

// hollow reports why a body without a signature is not media once its NULs are left out:
// it is text from a buffer of fixed size, or an object that was created and not written.
// Empty: it may be media.
func hollow(head []byte, body io.ReaderAt, size int64) string {
	switch rest := bytes.ReplaceAll(head, []byte{0}, nil); {
	case len(rest) == len(head):
	case len(rest) == 0 && zeros(body, size):
		return "the body is nothing but zeros"
	case len(rest) > 0 && printable(rest) && text(mimetype.Detect(rest)):
		return "the body is text with NULs in it"
	}
	return ""
}

// zeros reports whether the body is nothing but zeros.
func zeros(body io.ReaderAt, size int64) bool {
	p := make([]byte, rootBytes)
	for at := int64(0); at < size; at += int64(len(p)) {
		n, _ := body.ReadAt(p[:min(int64(len(p)), size-at)], at)
		if n == 0 || len(bytes.Trim(p[:n], "\x00")) > 0 {
			return false
		}
	}
	return true
}

func named(found *mimetype.MIME) Type {
	m := Type{MIME: base(found.String()), Ext: found.Extension(), found: found}
	m.Kind, m.text = kindOf(m.MIME), text(found)
	for _, container := range []string{"video/mp4", "video/webm", "video/matroska", "application/ogg", "video/x-ms-asf", "video/3gpp", "video/3gpp2", "video/quicktime"} {
		m.eitherKind = m.eitherKind || found.Is(container)
	}
	return m
}

// kindOf is the kind of a media type; empty: none.
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

// rootIsSVG reports whether a text is XML whose root element is svg, under any prefix,
// after declaration, document type and comments. known is false where the beginning of
// the document could not be read up to its root, or to text in place of a root.
func rootIsSVG(text []byte) (svg, known bool) {
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
