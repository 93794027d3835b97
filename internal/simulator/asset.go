package simulator

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// AssetOption describes an asset. A Fault is one, too: it strikes the asset's
// downloads. So are a Format and a Signing.
type AssetOption interface{ applyAsset(*asset) }

type assetOption func(*asset)

func (o assetOption) applyAsset(a *asset) { o(a) }

func (f Format) applyAsset(a *asset) { a.format = f }

// asset is one image, video or audio of a run.
type asset struct {
	run           *script
	key           run.Key // with the id that tells it apart, which need not be the API's
	kind          run.Kind
	id            string
	size          int64
	format        Format
	width, height int
	told          map[string]any
	copies        int
	from, to      int // listings
	file          string
	url           *string
	urlForm       func(string) string
	inline        bool
	signing       *Signing
	faults        []*Armed
	lost          *bool
	bytes         *string // the object; nil: it is made
	end           int64   // where the object was cut off; 0: nowhere
	early         Early   // what it is before its run has ended; 0: the same

	path    string
	seed    uint64
	now     *version
	before  []*version
	draft   *version  // the early one; nil: nobody asked for it
	answers int       // times that its URL was signed
	expiry  time.Time // of the URL last signed
}

// version is what an asset's URL gives, until it changes.
type version struct {
	content
	etag  string
	hash  func() string
	given spans // bytes served of it
}

// Image adds an image of exactly size bytes to the run, 0: a few KiB. It is a PNG
// of 64x64 pixels unless the options say otherwise.
func Image(id string, size int64, opts ...AssetOption) RunOption {
	return adds(run.Images, PNG, id, size, opts)
}

// Video adds a video: MP4.
func Video(id string, size int64, opts ...AssetOption) RunOption {
	return adds(run.Videos, MP4, id, size, opts)
}

// Audio adds an audio: WAV, unless the options say MP3.
func Audio(id string, size int64, opts ...AssetOption) RunOption {
	return adds(run.Audios, WAV, id, size, opts)
}

func adds(kind run.Kind, format Format, id string, size int64, opts []AssetOption) RunOption {
	return runOption(func(r *script) {
		a := &asset{run: r, kind: kind, id: id, size: size, format: format, width: 64, height: 64, copies: 1, from: 1}
		for _, o := range opts {
			o.applyAsset(a)
		}
		r.assets = append(r.assets, a)
	})
}

// Pixels is the size of an image.
func Pixels(width, height int) AssetOption {
	return assetOption(func(a *asset) { a.width, a.height = width, height })
}

// Told lets the API say something else or more of the asset than is true: any
// field of its entry, nil for null.
func Told(field string, value any) AssetOption {
	return assetOption(func(a *asset) {
		if a.told == nil {
			a.told = map[string]any{}
		}
		a.told[field] = value
	})
}

// FileName is the last part of the URL's path, which most assets share:
// `render.png` for images, `<uuid>-0.mp4` and its like for others.
func FileName(name string) AssetOption { return assetOption(func(a *asset) { a.file = name }) }

// Twice lists the asset twice in each answer.
func Twice() AssetOption { return assetOption(func(a *asset) { a.copies = 2 }) }

// Listed lists the asset only from one to another answer that lists assets,
// counted from 1; to 0: for ever.
func Listed(from, to int) AssetOption {
	return assetOption(func(a *asset) { a.from, a.to = from, to })
}

// ListedURL lists this URL instead of one of the CDN.
func ListedURL(url string) AssetOption { return assetOption(func(a *asset) { a.url = &url }) }

// ExpectLost says that the asset must be lost where Expected cannot know.
func ExpectLost() AssetOption { return expect(true) }

// ExpectStored says that the asset must be stored where Expected cannot know.
func ExpectStored() AssetOption { return expect(false) }

func expect(lost bool) AssetOption { return assetOption(func(a *asset) { a.lost = &lost }) }

// addAsset makes what an asset's URL gives. The caller holds s.mu.
func (s *Sim) addAsset(r *script, a *asset) error {
	a.key = run.Key{Run: r.id, Kind: a.kind, ID: a.ownID()}
	a.seed = seeded(s.cfg.seed, string(r.id), string(a.kind), a.key.ID)
	if a.signing == nil {
		a.signing = r.signing
	}
	if a.signing == nil {
		a.signing = s.cfg.signing
	}
	switch {
	case a.file != "":
	case a.kind == run.Images && a.format == PNG:
		a.file = "render.png"
	default:
		a.file = uuid(a.seed) + "-0" + a.format.ext()
	}
	a.path = s.freePath(a)
	if s.assets[a.key] != nil {
		return fmt.Errorf("asset %s is there already", a.key)
	}
	if err := a.become(s, a.size, 0); err != nil {
		return fmt.Errorf("%s: %w", a.key, err)
	}
	s.assets[a.key] = a
	s.paths[a.path] = a
	for _, f := range a.faults {
		f.where = a.key.String()
	}
	return nil
}

// freePath is where an asset's URL leads: ten digits, as the API has them, of which
// two assets in 80,000 would share the same if none looked. The caller holds s.mu.
func (s *Sim) freePath(a *asset) string {
	for n := mix(a.seed); ; n = mix(n + 1) {
		path := "/private/production/" + strconv.FormatUint(1e9+n%9e9, 10) + "/" + a.file
		if s.paths[path] == nil {
			return path
		}
	}
}

// ownID is the id by which the asset can be told from the run's others, by the
// rule of the design: the API's; `<kind>-<index>` where it gives none; with #2
// and so on where it gives one twice.
func (a *asset) ownID() string {
	index, same := 0, 0
	for _, other := range a.run.assets {
		if other.kind != a.kind {
			continue
		}
		index++
		if other.id == a.id {
			same++
		}
		if other == a {
			break
		}
	}
	switch {
	case a.id == "":
		return string(a.kind) + "-" + strconv.Itoa(index)
	case same > 1:
		return a.id + "#" + strconv.Itoa(same)
	}
	return a.id
}

// become makes the asset's content anew; its versions differ in every byte of
// their own.
func (a *asset) become(s *Sim, size int64, number int) error {
	seed := a.seed + uint64(number)
	c, err := a.object(size, seed, s.encode)
	if err != nil {
		return err
	}
	if a.end > 0 && a.end < c.size {
		c = c.first(a.end)
	}
	if a.now != nil {
		a.before = append(a.before, a.now)
	}
	a.now = &version{
		content: c,
		etag:    fmt.Sprintf(`"%016x%016x"`, mix(seed), mix(^seed)),
		hash:    sync.OnceValue(c.sum),
	}
	return nil
}

// encode makes a picture once, however many assets show it.
func (s *Sim) encode(p picture) (head, tail string, err error) {
	if c, ok := s.covers[p]; ok {
		return c.head, c.tail, nil
	}
	head, tail, err = p.encode()
	s.covers[p] = cover{head, tail}
	return head, tail, err
}

func (a *asset) listed(listing int) bool {
	return listing >= a.from && (a.to == 0 || listing <= a.to)
}

// entry is the asset in an answer. The caller holds s.mu.
func (a *asset) entry(r *script) map[string]any {
	entry := map[string]any{
		"id": a.id, "url": r.sim.sign(a), "created_at": r.stamp(r.completed),
		"duration": nil, "width": nil, "height": nil,
	}
	switch a.kind {
	case run.Images:
		entry["tool"], entry["width"], entry["height"] = "text-to-image", a.width, a.height
	case run.Videos:
		entry["tool"], entry["width"], entry["height"] = "image-to-video", clipWidth, clipHeight
	case run.Audios:
		entry["tool"] = "text-to-speech"
	}
	if a.kind != run.Images {
		entry["duration"] = a.seconds()
	}
	if a.id == "" {
		delete(entry, "id")
	}
	maps.Copy(entry, a.told)
	return entry
}

// uuid is a version 4 UUID from a seed.
func uuid(seed uint64) string {
	var b [16]byte
	noise(seed).fill(b[:], 0)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := fmt.Sprintf("%x", b)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
