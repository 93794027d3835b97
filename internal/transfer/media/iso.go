package media

import (
	"encoding/binary"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// brand is what a brand of an ISO base media file says (ISO/IEC 14496-12, section 4.3;
// the registry at mp4ra.org).
type brand struct{ mime, ext string }

// The brands whose files have a name of their own; all others are MP4.
var brands = map[string]brand{
	"avif": {"image/avif", ".avif"}, "avis": {"image/avif", ".avif"},
	"heic": {"image/heic", ".heic"}, "heix": {"image/heic", ".heic"}, "heim": {"image/heic", ".heic"}, "heis": {"image/heic", ".heic"},
	"hevc": {"image/heic-sequence", ".heic"}, "hevx": {"image/heic-sequence", ".heic"}, "hevm": {"image/heic-sequence", ".heic"}, "hevs": {"image/heic-sequence", ".heic"},
	"M4A ": {"audio/mp4", ".m4a"}, "M4B ": {"audio/mp4", ".m4b"}, "M4P ": {"audio/mp4", ".m4p"},
	"F4A ": {"audio/mp4", ".f4a"}, "F4B ": {"audio/mp4", ".f4b"}, "F4V ": {"video/mp4", ".f4v"}, "f4v ": {"video/mp4", ".f4v"},
	"M4V ": {"video/x-m4v", ".m4v"}, "M4VH": {"video/x-m4v", ".m4v"}, "M4VP": {"video/x-m4v", ".m4v"},
	"qt  ": {"video/quicktime", ".mov"}, "moov": {"video/quicktime", ".mov"}, "mqt ": {"video/quicktime", ".mqv"},
	"crx ": {"image/x-canon-cr3", ".cr3"},
	"mjp2": {"video/mj2", ".mj2"}, "mj2s": {"video/mj2", ".mj2"}, "MFSM": {"video/mj2", ".mj2"}, "MGSV": {"video/mj2", ".mj2"},
	"KDDI": {"video/3gpp2", ".3g2"},
}

// pictures are the brands of the container of HEIF and AVIF, which say nothing of what is in
// it: that is for the compatible brands.
var pictures = map[string]bool{"mif1": true, "mif2": true, "msf1": true, "miaf": true, "MiHA": true, "MiHB": true, "MiHE": true, "MiAn": true, "MiPr": true, "MiCm": true, "1pic": true, "MA1A": true, "MA1B": true, "avci": true, "avcs": true, "avic": true, "jpeg": true, "jpgs": true}

// isoMedia reads the ftyp box that begins an ISO base media file.
func isoMedia(head []byte) (Type, bool) {
	if len(head) < 12 || head[0] != 0 || string(head[4:8]) != "ftyp" {
		return Type{}, false
	}
	first, rest := 8, head[8:min(max(int(binary.BigEndian.Uint32(head)), 12), len(head))]
	if binary.BigEndian.Uint32(head) == 1 && len(head) >= 20 { // the size is in the next eight bytes
		first, rest = 16, head[16:]
	}
	major := string(head[first : first+4])
	b := brandOf(major)
	if b == nil {
		image := pictures[major]
		for rest = rest[min(8, len(rest)):]; len(rest) >= 4 && b == nil; rest = rest[4:] {
			if image && pictures[string(rest[:4])] {
				continue
			}
			if c := brands[string(rest[:4])]; strings.HasPrefix(c.mime, "image/") && (image || hasPicture(head)) {
				b = &c
			}
		}
		if b == nil && image {
			b = &brand{"image/heif", ".heif"}
		}
	}
	if b == nil {
		b = &brand{"video/mp4", ".mp4"}
	}
	m := Type{MIME: b.mime, Ext: b.ext, Kind: kindOf(b.mime), found: mimetype.Lookup(b.mime), Sure: true}
	m.eitherKind = b.mime == "video/mp4" || b.mime == "video/quicktime" || strings.HasPrefix(b.mime, "video/3gpp")
	return m, true
}

// brandOf is what the major brand alone says; nil: nothing.
func brandOf(major string) *brand {
	if b, ok := brands[major]; ok {
		return &b
	}
	switch {
	case strings.HasPrefix(major, "3g2"):
		return &brand{"video/3gpp2", ".3g2"}
	case strings.HasPrefix(major, "3g"):
		return &brand{"video/3gpp", ".3gp"}
	}
	return nil
}

// hasPicture reports whether a meta box comes next, where a film has its moov or mdat.
func hasPicture(head []byte) bool {
	at := int(min(binary.BigEndian.Uint32(head), HeadSize))
	return at+8 <= len(head) && string(head[at+4:at+8]) == "meta"
}
