package magnific

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/assetd/assetd/internal/run"
)

// role is what the name of a field says about the URLs below it.
type role struct {
	kind  run.Kind // empty: the name tells none
	plain bool     // besides a kind, the name has only words such as "generated", "output" and "url"
	input bool     // what went into the run or describes it: never an asset
}

// Words of the names of fields. A word of inputs makes the whole field one that is no
// output, whatever else its name says.
var (
	kindWords = map[string]run.Kind{
		"image": run.Images, "images": run.Images, "img": run.Images, "imgs": run.Images,
		"picture": run.Images, "pictures": run.Images, "photo": run.Images, "photos": run.Images,
		"video": run.Videos, "videos": run.Videos,
		"audio": run.Audios, "audios": run.Audios, "music": run.Audios, "sound": run.Audios, "sounds": run.Audios,
	}
	outputWords = wordSet("result results output outputs generated generation generations asset assets artifact artifacts media")
	plainWords  = wordSet("url urls uri uris src href link links file files item items list data response final full download signed public node nodes")
	inputWords  = wordSet(`input inputs param params parameter parameters option options setting settings config configuration argument arguments args
		request prompt prompts negative reference references ref refs source sources init initial original base before start end first last frame frames
		mask masks control controls controlnet style pose depth sketch template templates workflow graph preset seed
		thumbnail thumbnails thumb thumbs preview previews poster posters cover covers placeholder icon icons logo avatar watermark lowres blur
		user owner author creator account profile webhook webhooks callback callbacks self next prev previous docs doc documentation help page pages
		status cancel delete meta metadata debug log logs history error errors message warning warnings license`)
)

func wordSet(s string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(s) {
		set[w] = true
	}
	return set
}

// wordsOf splits a name at anything but letters and digits, and before a capital:
// "output_images", "outputImages" and "Output-Images" are the same two words.
func wordsOf(name string) []string {
	var words []string
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = word[:0]
		}
	}
	small := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
		case unicode.IsUpper(r) && small:
			flush()
			fallthrough
		default:
			word = append(word, r)
		}
		small = unicode.IsLower(r)
	}
	flush()
	return words
}

func roleOf(name string) role {
	r := role{plain: true}
	for _, w := range wordsOf(name) {
		kind, known := kindWords[w]
		switch {
		case inputWords[w]:
			return role{input: true}
		case known:
			r.kind = kind // of several the last: image_to_video
		case !outputWords[w] && !plainWords[w] && strings.Trim(w, "0123456789") != "":
			r.plain = false
		}
	}
	return r
}

// named reports whether the name says that there is output below it.
func (r role) named(name string) bool {
	return r.plain && !r.input && slices.ContainsFunc(wordsOf(name), func(w string) bool { return outputWords[w] })
}

// webURL reports whether s is nothing but an http or https URL.
func webURL(s string) bool {
	s = trimmed(s)
	return hasPrefixFold(s, "http://", "https://") && !strings.ContainsAny(s, " \t\n")
}

// assetURL reports whether s is a URL that an asset can have: also one without its
// scheme, and one that holds the asset itself (RFC 2397).
func assetURL(s string) bool {
	s = trimmed(s)
	rest, short := strings.CutPrefix(s, "//")
	return webURL(s) || short && strings.Contains(rest, ".") && !strings.ContainsAny(rest, " \t\n") ||
		hasPrefixFold(s, "data:image/", "data:video/", "data:audio/")
}

func trimmed(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

func hasPrefixFold(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return len(s) >= len(p) && strings.EqualFold(s[:len(p)], p) })
}

// unwrapped is the JSON that a string holds as text, up to three times over; any
// other value as it is.
func unwrapped(raw []byte) []byte {
	for range 3 {
		if !isString(raw) {
			return raw
		}
		s := trimmed(text(raw))
		if s == "" || s[0] != '{' && s[0] != '[' && s[0] != '"' {
			return raw
		}
		inner, err := document([]byte(s))
		if err != nil {
			return raw
		}
		raw = inner
	}
	return raw
}

// around takes the assets that stand next to the result: in a field that is called
// output, and, where nothing was found so far, in one that is called after a kind.
func (p *parser) around(doc *object) error {
	if err := p.search(doc, false); err != nil || len(p.answer.Assets) > 0 {
		return err
	}
	for _, m := range doc.fields {
		if r := roleOf(m.name); r.kind != "" && r.plain {
			if err := p.among(r.kind, unwrapped(m.value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// search takes the assets below the fields of o that are not among the documented
// lists. output: o is output as a whole, so that a kind in a field's name counts
// whatever else the name says, unless that is a word for what went in.
func (p *parser) search(o *object, output bool) error {
	for _, m := range slices.Clone(o.fields) {
		r := roleOf(m.name)
		value := unwrapped(m.value)
		var err error
		switch {
		case r.input:
			continue
		case r.kind != "" && (output || r.named(m.name)):
			err = p.among(r.kind, value)
		case r.named(m.name), r.plain && output:
			err = p.among("", value)
		case output && isObject(value):
			err = p.below(value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) below(doc []byte) error {
	o, err := newObject(doc)
	if err != nil {
		return err
	}
	return p.search(o, true)
}

// among takes the assets of a value whose place says that it is output, of that kind
// if it says so.
func (p *parser) among(kind run.Kind, value []byte) error {
	if !isList(value) {
		return p.one(kind, value, 1)
	}
	index := 0
	for e := range elements(value) {
		index++
		if err := p.one(kind, unwrapped(e), index); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) one(kind run.Kind, value []byte, index int) error {
	if len(p.answer.Assets) >= maxAssets {
		return fmt.Errorf("it lists more than %d assets", maxAssets)
	}
	switch {
	case isList(value):
		return p.among(kind, value)
	case isString(value):
		url := text(value)
		if kind == "" {
			kind = kindByName(url)
		}
		if kind != "" && assetURL(url) && !p.taken[url] {
			p.add(run.Listed{Kind: kind, URL: url}, index)
		}
		return nil
	case !isObject(value):
		return nil
	}
	o, err := newObject(value)
	if err != nil {
		return err
	}
	field := urlField(o)
	if field == "" {
		return p.inside(kind, o)
	}
	if kind == "" {
		kind = kindOf(o, text(o.get(field)))
	}
	if kind == "" || p.taken[text(o.get(field))] { // unknown, or listed already
		return nil
	}
	l, err := p.listed(kind, o)
	if err == nil {
		p.add(l, index)
	}
	return err
}

// inside looks for the assets of an object that has no URL of its own.
func (p *parser) inside(kind run.Kind, o *object) error {
	if kind == "" {
		return p.search(o, true)
	}
	for _, m := range o.fields {
		r := roleOf(m.name)
		if r.input || r.kind == "" && !r.plain {
			continue
		}
		if r.kind == "" {
			r.kind = kind
		}
		if err := p.among(r.kind, unwrapped(m.value)); err != nil {
			return err
		}
	}
	return nil
}

// urlField is the name of the field that holds an object's URL: `url`, else the
// first that says so by its name, such as `image_url`, `src` or `download_url`; empty
// where there is none.
func urlField(o *object) string {
	if raw := o.get("url"); isString(raw) {
		return "url"
	}
	for _, m := range o.fields {
		if r := roleOf(m.name); r.plain && !r.input && isString(m.value) && assetURL(text(m.value)) {
			return m.name
		}
	}
	return ""
}

// kindOf is the kind that an object says it is, by its type, its tool, its id or the
// name of its file; empty: it cannot be known.
func kindOf(o *object, url string) run.Kind {
	for _, name := range []string{"kind", "type", "media_type", "mediaType", "mime_type", "mimeType", "mime", "content_type", "contentType", "asset_type", "file_type"} {
		first, _, _ := strings.Cut(strings.ToLower(text(o.get(name))), "/")
		if kind := kindWords[strings.TrimSpace(first)]; kind != "" {
			return kind
		}
	}
	if kind := kindByName(url); kind != "" {
		return kind
	}
	for _, name := range []string{"file_name", "filename", "name", "format", "extension"} {
		if kind := kindByName("." + text(o.get(name))); kind != "" {
			return kind
		}
	}
	if _, to, ok := strings.Cut(text(o.get("tool")), "-to-"); ok {
		if kind := kindWords[to]; kind != "" {
			return kind
		}
	}
	if words := wordsOf(text(o.get("id"))); len(words) > 0 {
		return kindWords[words[0]]
	}
	return ""
}

// extensions are those of file names, by the kind of what is in the file.
var extensions = map[run.Kind]map[string]bool{
	run.Images: wordSet("png jpg jpeg jpe jfif webp gif avif heic heif bmp tif tiff svg tga exr jxl ico psd"),
	run.Videos: wordSet("mp4 m4v mov webm mkv avi mpg mpeg ogv 3gp ts"),
	run.Audios: wordSet("mp3 wav flac ogg oga opus m4a aac aif aiff wma weba mid midi"),
}

// kindByName is the kind of a URL by its extension, or by the type that a data URL
// begins with; empty: it cannot be known.
func kindByName(url string) run.Kind {
	url = trimmed(url)
	if hasPrefixFold(url, "data:") {
		media, _, _ := strings.Cut(strings.ToLower(url[len("data:"):]), "/")
		return kindWords[media]
	}
	if cut := strings.IndexAny(url, "?#"); cut >= 0 {
		url = url[:cut]
	}
	ext := strings.ToLower(url[strings.LastIndexAny(url, "./")+1:])
	for _, kind := range run.Kinds() {
		if extensions[kind][ext] {
			return kind
		}
	}
	return ""
}

// ignore moves the fields of o that hold URLs which are no asset's to Ignored. What
// went into the run, or describes it, is moved only where the run has no asset at
// all: else every answer that repeats its input would be reported.
func (p *parser) ignore(o *object) {
	alarmed := p.answer.Status.Terminal() && len(p.answer.Assets) == 0
	var others []member
	for _, m := range o.fields {
		if roleOf(m.name).input && !alarmed || !p.strange(m.value) {
			others = append(others, m)
			continue
		}
		p.ignored(m.name, m.value)
	}
	o.fields = others
}

func (p *parser) ignored(name string, value []byte) {
	if p.answer.Ignored == nil {
		p.answer.Ignored = map[string]json.RawMessage{}
	}
	for _, taken := p.answer.Ignored[name]; taken; _, taken = p.answer.Ignored[name] {
		name += "#2" // one in the result, one next to it
	}
	p.answer.Ignored[name] = kept(value)
}

// strange reports whether the value holds a URL that was not taken as an asset's,
// but for those in fields that repeat or describe.
func (p *parser) strange(value []byte) bool {
	value = unwrapped(value)
	alarmed := p.answer.Status.Terminal() && len(p.answer.Assets) == 0
	switch {
	case isString(value):
		s := text(value)
		return webURL(s) && !p.taken[s]
	case isList(value):
		for e := range elements(value) {
			if p.strange(e) {
				return true
			}
		}
	case isObject(value):
		fields, err := members(value)
		if err != nil {
			return false
		}
		for _, m := range fields {
			if webURL(m.name) || (alarmed || !roleOf(m.name).input) && p.strange(m.value) {
				return true
			}
		}
	}
	return false
}
