package media

import (
	"mime"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// aliases lists, for the media types that formats are reported as, the other names that
// servers send them under: old, vendors', with and without x-, and wider ones. A type
// may be in several lists.
var aliases = map[string][]string{
	"image/jpeg":                {"image/jpg", "image/pjpeg", "image/jpe", "image/jfif", "image/pipeg", "application/jpg"},
	"image/png":                 {"image/apng", "image/vnd.mozilla.apng", "application/png"},
	"image/apng":                {"image/png", "image/vnd.mozilla.apng"},
	"image/gif":                 {"image/gi_"},
	"image/bmp":                 {"image/ms-bmp", "image/windows-bmp", "image/bitmap", "image/xbitmap", "image/win-bitmap", "application/bmp"},
	"image/tiff":                {"image/tif", "application/tiff", "application/tif", "image/dng", "image/adobe-dng"},
	"image/x-icon":              {"image/vnd.microsoft.icon", "image/icon", "image/ico", "image/icns", "image/cursor", "image/cur", "application/ico"},
	"image/x-tga":               {"image/tga", "image/targa", "image/vnd.truevision.tga", "application/tga", "application/targa"},
	"image/x-pcx":               {"image/pcx", "image/vnd.zbrush.pcx"},
	"image/svg+xml":             {"image/svg", "image/svg-xml", "application/svg+xml", "application/svg", "text/xml", "application/xml", "text/xml-svg", "text/plain"},
	"image/vnd.adobe.photoshop": {"image/psd", "image/photoshop", "application/psd", "application/photoshop", "application/vnd.adobe.photoshop"},
	"image/heic":                {"image/heif", "image/heic-sequence", "image/heif-sequence"},
	"image/heic-sequence":       {"image/heif", "image/heic", "image/heif-sequence"},
	"image/heif":                {"image/heic", "image/heic-sequence", "image/heif-sequence", "image/avci"},
	"image/heif-sequence":       {"image/heic", "image/heif", "image/heic-sequence"},
	"image/avif":                {"image/avif-sequence", "image/avifs", "image/heif"},
	"image/jp2":                 {"image/jpeg2000", "image/jpeg2000-image", "image/jpx", "image/jpm"},
	"image/jxl":                 {"image/jpegxl"},
	"image/jxr":                 {"image/vnd.ms-photo", "image/hdphoto"},
	"image/vnd.radiance":        {"image/hdr", "image/vnd.radiance.hdr"},

	"audio/mp4":   {"audio/m4a", "audio/m4b", "audio/m4p", "audio/m4r", "audio/mp4a-latm", "audio/mp4a", "audio/aac", "audio/aacp", "audio/alac", "video/mp4", "application/mp4"},
	"audio/mpeg":  {"audio/mp3", "audio/mpeg3", "audio/mpeg-3", "audio/mpg", "audio/mpga", "audio/mpa", "audio/mp2", "audio/mpeg2", "audio/mpeg-2", "audio/mp2a"},
	"audio/aac":   {"audio/aacp", "audio/adts", "audio/hx-aac-adts", "audio/vnd.dlna.adts", "audio/mpeg4-generic", "audio/mp4", "audio/m4a"},
	"audio/flac":  {"application/flac"},
	"audio/wav":   {"audio/wave", "audio/vnd.wave", "audio/pn-wav", "audio/rf64", "audio/bwf"},
	"audio/aiff":  {"audio/aif", "audio/aifc", "sound/aiff"},
	"audio/midi":  {"audio/mid", "audio/sp-midi", "application/midi"},
	"audio/basic": {"audio/au", "audio/snd", "audio/ulaw"},

	"audio/ogg":       {"application/ogg", "audio/opus", "audio/vorbis", "audio/speex", "audio/oga", "audio/ogg-opus", "audio/flac", "video/ogg"},
	"video/ogg":       {"application/ogg", "audio/ogg", "video/theora", "video/ogv"},
	"application/ogg": {"audio/ogg", "video/ogg", "audio/opus", "audio/vorbis", "audio/flac"},

	"video/mp4":        {"audio/mp4", "application/mp4", "video/mpeg4", "video/mpeg-4", "video/mp4v-es", "video/mp4s", "video/m4v", "video/quicktime", "video/h264", "video/h265", "audio/m4a", "video/f4v"},
	"video/x-m4v":      {"video/mp4", "application/mp4", "video/quicktime"},
	"video/quicktime":  {"video/mov", "video/qt", "video/quicktime-movie", "video/mp4", "audio/quicktime", "application/quicktimeplayer"},
	"video/3gpp":       {"audio/3gpp", "video/3gp", "audio/3gp", "video/mp4", "video/3gpp2"},
	"video/3gpp2":      {"audio/3gpp2", "video/3g2", "audio/3g2", "video/mp4", "video/3gpp"},
	"video/webm":       {"audio/webm", "video/matroska", "audio/matroska"},
	"video/matroska":   {"audio/matroska", "video/mkv", "video/matroska-3d", "application/matroska"},
	"video/x-msvideo":  {"video/avi", "video/vnd.avi", "video/msvideo", "application/msvideo"},
	"video/x-ms-asf":   {"video/asf", "video/ms-wmv", "video/ms-wm", "audio/ms-wma", "video/wmv", "audio/wma", "application/vnd.ms-asf"},
	"video/mpeg":       {"video/mpg", "video/mp1s", "video/mp2p", "video/mpeg-system", "video/mpeg2"},
	"video/mp2t":       {"video/m2ts", "video/mpegts", "video/vnd.dlna.mpeg-tts"},
	"video/x-flv":      {"video/flv", "application/flash-video"},
	"application/zip":  {"application/zip-compressed"},
	"application/gzip": {"application/gunzip"},
}

// generic reports whether a content type says nothing in particular: it is none, a
// placeholder, or one that stands for any bytes.
func generic(announced string) bool {
	top, sub, _ := strings.Cut(announced, "/")
	switch {
	case sub == "" || sub == "*" && top == "*":
		return true
	case top == "binary", top == "multipart":
		return true
	case top == "application":
		for _, prefix := range []string{"octet", "x-", "force-", "download", "unknown", "binary", "save", "data", "file"} {
			if strings.HasPrefix(sub, prefix) {
				return true
			}
		}
	}
	return false
}

// IsMessage reports whether a content type is text that is no picture: a message to read,
// not media.
func IsMessage(contentType string) bool {
	known := mimetype.Lookup(base(contentType))
	return known != nil && text(known) && !known.Is("image/svg+xml")
}

// canonical is a content type without its parameters, under the name that this package
// has for it.
func canonical(contentType string) string {
	announced, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	if _, ok := unsigned[announced]; ok {
		return announced
	}
	for t := range unsigned {
		if alike(announced, t) || slices.ContainsFunc(aliases[t], func(a string) bool { return alike(announced, a) }) {
			return t
		}
	}
	return announced
}

// alike reports whether two types are the same but for an x- of either.
func alike(a, b string) bool {
	topA, subA, _ := strings.Cut(a, "/")
	topB, subB, _ := strings.Cut(b, "/")
	return topA == topB && strings.TrimPrefix(subA, "x-") == strings.TrimPrefix(subB, "x-")
}

// contradicts reports whether a content type says something else than the bytes.
func (m Type) contradicts(announced string) bool {
	if m.MIME == "application/octet-stream" || generic(announced) || alike(announced, m.MIME) {
		return false
	}
	if top, ok := strings.CutSuffix(announced, "/*"); ok {
		return !strings.HasPrefix(m.MIME, top+"/")
	}
	if slices.ContainsFunc(aliases[m.MIME], func(a string) bool { return alike(announced, a) }) {
		return false
	}
	for found := m.found; found != nil && !text(found); found = found.Parent() {
		if found.Is(announced) {
			return false
		}
	}
	for known := mimetype.Lookup(announced); known != nil; known = known.Parent() { // a finer word for the same
		if known.Is(m.MIME) {
			return false
		}
	}
	return true
}
