package media

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/assetd/assetd/internal/run"
)

// signed lists the formats whose signature has more than four bytes, or is followed by
// something that mimetype holds against it. All others are sure only where confirm
// finds what must come next.
var signed = map[string]bool{
	"image/png": true, "image/apng": true, "image/gif": true, "image/webp": true, "image/svg+xml": true, "image/jp2": true,
	"image/jpx": true, "image/jpm": true, "image/jxs": true, "image/x-xcf": true, "image/vnd.radiance": true, "image/bmp": true,
	"image/vnd.djvu": true, "image/x-xpixmap": true, "image/avif": true, "image/heic": true, "image/heic-sequence": true,
	"image/heif": true, "image/heif-sequence": true, "image/x-canon-cr3": true,
	"video/mp4": true, "video/quicktime": true, "video/x-m4v": true, "video/3gpp": true, "video/3gpp2": true, "video/mj2": true,
	"video/webm": true, "video/matroska": true, "video/x-msvideo": true, "video/x-ms-asf": true, "video/ogg": true,
	"audio/mp4": true, "audio/wav": true, "audio/flac": true, "audio/ogg": true, "application/ogg": true, "audio/aiff": true,
	"audio/ape": true, "audio/qcelp": true, "audio/x-unknown": true, "application/pdf": true, "application/postscript": true,
}

// unsigned are the formats that nothing or too little says by the bytes alone, and the
// extensions they have. A content type or a URL that names one of them is believed
// where no signature speaks against it.
var unsigned = map[string][]string{
	"image/x-tga":  {".tga", ".icb", ".vda", ".vst"},
	"image/x-icon": {".ico", ".cur"},
	"image/x-pcx":  {".pcx"},
	"image/tiff":   {".tiff", ".tif"},
	"audio/mpeg":   {".mp3", ".mp2", ".mpga"},
	"audio/aac":    {".aac", ".adts"},
	"audio/basic":  {".au", ".snd"},
	"audio/ac3":    {".ac3"},
	"audio/l16":    {".pcm"},
	"video/mp2t":   {".ts", ".m2ts", ".mts"},
	"video/mpeg":   {".mpeg", ".mpg"},
}

// sniff names the format of a body that starts with head. What head does not show is
// looked for in body, of size bytes; nil: only head is read.
func sniff(head []byte, body io.ReaderAt, size int64) Type {
	if rest, at, ok := afterID3(head, body, size); ok {
		return tagged(rest, at, size)
	}
	if m, ok := isoMedia(head); ok {
		return m
	}
	if len(head) >= 12 && (string(head[:4]) == "RF64" || string(head[:4]) == "BW64") && string(head[8:12]) == "WAVE" {
		m := named(mimetype.Lookup("audio/wav")) // EBU Tech 3306: WAV beyond 4 GiB
		m.Sure = true
		return m
	}
	if len(head) >= 8 && string(head[:4]) == "fLaC" && head[4]&0x7f == 0 && string(head[5:8]) == "\x00\x00\x22" {
		m := named(mimetype.Lookup("audio/flac")) // also one whose first block of metadata is its last
		m.Sure = true
		return m
	}
	if transport(head) {
		return Type{MIME: "video/mp2t", Ext: ".ts", Kind: run.Videos, eitherKind: true, Sure: true, found: mimetype.Lookup("video/mp2t")}
	}
	m := named(mimetype.Detect(head))
	if adts(head) && !m.text {
		m = named(mimetype.Lookup("audio/aac"))
	}
	m.Sure = signed[m.MIME] || !m.text && confirm(m.MIME, head)
	if !m.Sure && !m.text && printable(head) {
		return Type{MIME: "text/plain", Ext: ".txt", text: true, found: mimetype.Lookup("text/plain")}
	}
	if !m.Sure && !m.text && tga(head, body, size) {
		return Type{MIME: "image/x-tga", Ext: ".tga", Kind: run.Images, Sure: true}
	}
	return m
}

// transport reports whether MPEG transport stream packets follow one another (ISO/IEC
// 13818-1, section 2.4.3.2).
func transport(head []byte) bool {
	const packet, packets = 188, 5
	for i := range packets {
		if at := i * packet; at >= len(head) || head[at] != 'G' {
			return false
		}
	}
	return !printable(head[:packets*packet])
}

// printable reports whether no byte is one that text never has: a word that begins like
// a format's short signature is still a word.
func printable(head []byte) bool {
	for _, b := range head {
		if b < ' ' && !bytes.ContainsRune([]byte("\t\n\f\r\x1b"), rune(b)) {
			return false
		}
	}
	return true
}

// afterID3 skips the ID3v2 tags (id3.org, ID3v2.4.0-structure, section 3) that come
// before some audio files, and gives what follows: nothing where that is not there yet.
func afterID3(head []byte, body io.ReaderAt, size int64) (rest []byte, at int64, ok bool) {
	rest = head
	for range 16 {
		n, tag := id3(rest)
		if !tag {
			break
		}
		at, ok = at+n, true
		if rest, ok = skipTo(head, body, at, size), true; len(rest) == 0 {
			return nil, at, true
		}
	}
	if !ok {
		return nil, 0, false
	}
	if padding := len(rest) - len(bytes.TrimLeft(rest, "\x00")); padding < len(rest) && (len(rest) < 8 || string(rest[4:8]) != "ftyp") {
		rest, at = rest[padding:], at+int64(padding) // more than the tag says, as some writers leave
	}
	return rest, at, true
}

// id3 is the length of the tag that p starts with, footer included.
func id3(p []byte) (int64, bool) {
	if len(p) < 10 || string(p[:3]) != "ID3" || p[3] < 2 || p[3] > 4 || p[4] == 0xff || (p[6]|p[7]|p[8]|p[9])&0x80 != 0 {
		return 0, false
	}
	n := int64(10) + int64(p[6])<<21 + int64(p[7])<<14 + int64(p[8])<<7 + int64(p[9])
	if p[3] == 4 && p[5]&0x10 != 0 {
		n += 10
	}
	return n, true
}

// skipTo gives bytes of the body from a place on, as many as a head has.
func skipTo(head []byte, body io.ReaderAt, at, size int64) []byte {
	if body == nil {
		if at >= int64(len(head)) {
			return nil
		}
		return head[at:]
	}
	p := make([]byte, max(min(HeadSize, size-at), 0))
	n, _ := body.ReadAt(p, at)
	return p[:n]
}

// tagged is what follows ID3 tags: the audio that follows, or MP3, whose tag it is.
func tagged(rest []byte, at, size int64) Type {
	mp3 := named(mimetype.Lookup("audio/mpeg"))
	mp3.Sure = true
	if len(rest) == 0 {
		return mp3
	}
	m := sniff(rest, nil, 0)
	switch {
	case m.text:
		return m
	case m.MIME == "application/octet-stream", m.Kind != run.Audios && !m.eitherKind, !m.Sure && m.MIME != "audio/mpeg" && m.MIME != "audio/aac" && !signedAudio(rest):
		return mp3
	}
	m.Sure = true
	return m
}

// signedAudio reports whether a short signature is that of audio, which is enough
// after a tag of audio.
func signedAudio(p []byte) bool {
	for _, magic := range []string{"MPCK", "MP+", "wvpk", "TTA1", "DSD ", "OFR ", "#!AMR", ".snd", "MAC "} {
		if bytes.HasPrefix(p, []byte(magic)) {
			return true
		}
	}
	return false
}

// confirm reports whether what follows a short signature is what must follow it.
func confirm(mime string, head []byte) bool {
	switch mime {
	case "image/jpeg":
		return jpegStart(head)
	case "image/tiff":
		return tiffStart(head)
	case "image/x-icon":
		return iconStart(head)
	case "audio/mpeg":
		n, ok := mpegFrame(head)
		if !ok || n > len(head)-4 {
			return false
		}
		_, ok = mpegFrame(head[n:])
		return ok
	case "audio/aac":
		n, ok := adtsFrame(head)
		return ok && n <= len(head)-7 && adts(head[n:])
	case "image/vnd.adobe.photoshop":
		return len(head) > 12 && (head[5] == 1 || head[5] == 2) && len(bytes.Trim(head[6:12], "\x00")) == 0
	case "audio/midi":
		return len(head) > 8 && string(head[4:8]) == "\x00\x00\x00\x06"
	case "image/x-icns":
		return len(head) > 16 && bytes.HasPrefix(head, []byte("icns\x00"))
	case "image/x-portable-bitmap", "image/x-portable-graymap", "image/x-portable-pixmap":
		return netpbmStart(head)
	case "image/x-portable-arbitrarymap":
		return true // mimetype reads its header
	case "image/jxl":
		return bytes.HasPrefix(head, []byte("\x00\x00\x00\x0cJXL "))
	}
	return false
}

// jpegStart reports whether a marker segment of a JPEG comes after the first (ITU T.81,
// annex B).
func jpegStart(head []byte) bool {
	return len(head) >= 6 && (head[3] >= 0xc0 && head[3] != 0xff) && binary.BigEndian.Uint16(head[4:]) >= 2
}

// netpbmStart reports whether a width comes after the letters, and comments.
func netpbmStart(head []byte) bool {
	for line := range bytes.Lines(head[min(3, len(head)):]) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return line[0] >= '0' && line[0] <= '9'
		}
	}
	return false
}

// tiffStart reports whether the first directory is where one can be (TIFF 6.0, section 2).
func tiffStart(head []byte) bool {
	if len(head) < 8 {
		return false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'M' {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(head[4:]))
	if at < 8 || at%2 != 0 {
		return false
	}
	if at+14 > int64(len(head)) {
		return true
	}
	entries, kind := order.Uint16(head[at:]), order.Uint16(head[at+4:])
	return entries > 0 && entries < 4096 && kind > 0 && kind <= 18
}

// iconStart reports whether the entries of an icon's or a cursor's directory point past it.
func iconStart(head []byte) bool {
	if len(head) < 22 || head[0] != 0 || head[1] != 0 || head[2] != 1 && head[2] != 2 || head[3] != 0 {
		return false
	}
	n := int64(binary.LittleEndian.Uint16(head[4:]))
	if n == 0 || n > 256 {
		return false
	}
	for i := range n {
		at := 6 + 16*i
		if at+16 > int64(len(head)) {
			break
		}
		bytes, off := binary.LittleEndian.Uint32(head[at+8:]), int64(binary.LittleEndian.Uint32(head[at+12:]))
		if head[at+3] != 0 || bytes < 40 || off < 6+16*n {
			return false
		}
	}
	return true
}

// tga reports whether the header is that of a TGA (Truevision TGA 2.0, appendix) and the
// size, or the footer, agrees with it.
func tga(head []byte, body io.ReaderAt, size int64) bool {
	if len(head) < 18 || body == nil {
		return false
	}
	kind, bits := head[2], int64(head[16])
	width, height := int64(binary.LittleEndian.Uint16(head[12:])), int64(binary.LittleEndian.Uint16(head[14:]))
	if head[1] > 1 || !slices.Contains([]byte{1, 2, 3, 9, 10, 11}, kind) || !slices.Contains([]int64{8, 15, 16, 24, 32}, bits) || width == 0 || height == 0 {
		return false
	}
	var footer [26]byte
	if n, _ := body.ReadAt(footer[:], size-int64(len(footer))); size > 44 && n == len(footer) && string(footer[8:]) == "TRUEVISION-XFILE.\x00" {
		return true
	}
	colours := int64(head[1]) * int64(binary.LittleEndian.Uint16(head[5:])) * ((int64(head[7]) + 7) / 8)
	return kind <= 3 && size == 18+int64(head[0])+colours+width*height*((bits+7)/8)
}

// Resolve completes a type once the whole body is there. Where the bytes have too little of
// a signature, as four bytes are soon met by chance, the content type and the extension of
// the URL's path (lower case, with its dot) name the format; it must be one that has no
// signature itself: what has none is no PNG, whatever it is called. Then the dimensions are
// read, and a missing extension is taken from content type or URL.
func (m *Type) Resolve(body io.ReaderAt, size int64, contentType, urlExt string) {
	m.settle(contentType, urlExt)
	m.measure(body, size)
	if m.Ext != "" {
		return
	}
	m.Ext = urlExt
	if named := mimetype.Lookup(contentType); named != nil && named.Extension() != "" && !text(named) {
		m.Ext = named.Extension()
	}
}

// settle lets content type and URL name the format of a body without a signature.
func (m *Type) settle(contentType, ext string) {
	if m.Sure || m.text || m.Refused != "" {
		return
	}
	announced := canonical(contentType)
	exts, ok := unsigned[announced]
	if !ok && !generic(announced) {
		m.believe(announced, ext)
		return
	}
	for t, all := range unsigned {
		if !ok && slices.Contains(all, ext) {
			announced, exts, ok = t, all, true
		}
	}
	if !ok || announced == m.MIME {
		return
	}
	if !slices.Contains(exts, ext) {
		ext = exts[0]
	}
	m.rename(announced, ext)
}

// believe takes the content type of a picture, film or sound that is not known here, where
// the URL's extension differs from that of the bytes, too.
func (m *Type) believe(announced, ext string) {
	top, _, _ := strings.Cut(announced, "/")
	if mimetype.Lookup(announced) == nil && ext != "" && ext != m.Ext && (top == "image" || top == "audio" || top == "video") && !strings.HasSuffix(announced, "*") {
		m.rename(announced, ext)
	}
}

func (m *Type) rename(mime, ext string) {
	*m = Type{MIME: mime, Ext: ext, Kind: kindOf(mime), found: mimetype.Lookup(mime)}
}
