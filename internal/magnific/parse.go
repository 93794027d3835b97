package magnific

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// Parse reads the body of a 200, with the outer `data` or without it. It takes
// what is documented wherever it has the documented type, and keeps everything
// else by name: unknown fields, and known ones of another type, in Extra (those of
// `result` together under "result"), other lists of objects with a url in
// Ignored. Its errors say why the body cannot be used: not one JSON object, a
// field twice, no status, or more than can be kept.
func Parse(body []byte) (run.Answer, error) {
	body, err := document(body)
	if err != nil {
		return run.Answer{}, err
	}
	if !isObject(body) {
		return run.Answer{}, errors.New("its JSON is not an object")
	}
	doc, envelope, err := open(body)
	if err != nil {
		return run.Answer{}, err
	}
	p := &parser{envelope: envelope, taken: map[string]bool{"": true}, named: map[assetName]int{}, files: map[assetFile]int{}}
	if err := p.run(doc); err != nil {
		return run.Answer{}, err
	}
	return p.answer, nil
}

// open finds the run in the body: under `data`, or the body itself.
func open(body []byte) (doc, envelope *object, err error) {
	doc, err = newObject(body)
	if err != nil {
		return nil, nil, err
	}
	data := unwrapped(doc.get("data"))
	if !isObject(data) {
		return doc, &object{}, nil
	}
	inner, err := newObject(data)
	if err != nil {
		return nil, nil, err
	}
	if status := doc.get("status"); inner.get("status") == nil && status != nil {
		if inner.get("result") == nil { // a run without the outer `data`, with a field of that name
			return doc, &object{}, nil
		}
		inner.drop("status")
		inner.fields = append(inner.fields, member{"status", status})
		doc.drop("status")
	}
	doc.drop("data")
	return inner, doc, nil
}

// parser builds one answer.
type parser struct {
	envelope *object
	answer   run.Answer
	extras   int
	taken    map[string]bool   // the URLs of assets
	named    map[assetName]int // how many assets have the id
	files    map[assetFile]int // where in answer.Assets the asset stands
}

type assetName struct {
	kind run.Kind
	id   string
}

type assetFile struct {
	assetName
	path string
}

func (p *parser) run(doc *object) error {
	if !isString(doc.get("status")) {
		return errors.New("it has no status that is a string")
	}
	a := &p.answer
	a.Status = run.Status(doc.word("status", maxStatus))
	a.Run = run.ID(doc.identifier("run_id"))
	a.App = doc.word("app_id", maxWord)
	a.StartedAt = doc.word("started_at", maxWord)
	a.CompletedAt = doc.word("completed_at", maxWord)
	a.ErrorMessage = doc.words("error_message", maxMessage)
	if a.Status == "" {
		return errors.New("its status is empty")
	}
	unknown := map[string]json.RawMessage{}
	var result *object
	switch raw := unwrapped(doc.get("result")); {
	case isObject(raw):
		doc.drop("result")
		var err error
		if result, err = newObject(raw); err != nil {
			return err
		}
		if err := p.result(result); err != nil {
			return err
		}
	case raw == nil:
		doc.drop("result")
	}
	if err := p.around(doc); err != nil {
		return err
	}
	// What is no asset is known only after all that are.
	if result != nil {
		p.ignore(result)
		if err := p.keepResult(unknown, result); err != nil {
			return err
		}
	}
	p.ignore(doc)
	if err := p.keep(unknown, doc, ""); err != nil {
		return err
	}
	p.ignore(p.envelope)
	if err := p.keep(unknown, p.envelope, "envelope."); err != nil {
		return err
	}
	if len(unknown) > 0 {
		a.Extra = unknown
	}
	return nil
}

// keep puts what is left of o into the unknown fields. Where a name is taken the
// prefix tells the two apart.
func (p *parser) keep(unknown map[string]json.RawMessage, o *object, prefix string) error {
	for _, m := range o.fields {
		if p.extras++; p.extras > maxExtra {
			return fmt.Errorf("it has more than %d unknown fields", maxExtra)
		}
		name := m.name
		for _, taken := unknown[name]; taken && prefix != ""; _, taken = unknown[name] {
			name = prefix + name
		}
		unknown[name] = kept(m.value)
	}
	return nil
}

// result reads the documented lists of assets, and what else in the result is output
// by its name. What in a list is no asset stays in the result.
func (p *parser) result(result *object) error {
	for _, kind := range run.Kinds() {
		list := unwrapped(result.get(string(kind)))
		if isObject(list) && hasURL(list) { // one asset without a list around it
			list = append(append([]byte{'['}, list...), ']')
		}
		if !isList(list) {
			if list == nil {
				result.drop(string(kind))
			}
			continue
		}
		result.drop(string(kind))
		odd, err := p.assets(kind, list)
		if err != nil {
			return err
		}
		if odd != nil {
			result.fields = append(result.fields, member{string(kind), odd})
		}
	}
	return p.search(result, true)
}

// keepResult keeps what is left of the result as one unknown field of that name.
func (p *parser) keepResult(unknown map[string]json.RawMessage, result *object) error {
	rest := map[string]json.RawMessage{}
	if err := p.keep(rest, result, ""); err != nil || len(rest) == 0 {
		return err
	}
	raw, err := json.Marshal(rest)
	if err != nil {
		return fmt.Errorf("keep the unknown fields of its result: %w", err)
	}
	unknown["result"] = raw
	return nil
}

func hasURL(doc []byte) bool {
	fields, err := members(doc)
	o := object{fields}
	return err == nil && isString(o.get("url"))
}

// assets reads one list. What in it is no asset comes back as a list of its own.
func (p *parser) assets(kind run.Kind, list []byte) (odd json.RawMessage, err error) {
	index := 0
	var others [][]byte
	for e := range elements(list) {
		index++
		if len(p.answer.Assets) >= maxAssets {
			return nil, fmt.Errorf("it lists more than %d assets", maxAssets)
		}
		switch {
		case isObject(e):
			if err := p.asset(kind, index, e); err != nil {
				return nil, err
			}
		case isString(e) && signedurl.IsURL(text(e)): // nothing but the URL
			p.add(run.Listed{Kind: kind, URL: text(e)}, index)
		case !isNull(e):
			if p.extras++; p.extras > maxExtra {
				return nil, fmt.Errorf("it has more than %d unknown fields", maxExtra)
			}
			others = append(others, e)
		}
	}
	if others == nil {
		return nil, nil
	}
	return kept(append(append([]byte{'['}, bytes.Join(others, []byte{','})...), ']')), nil
}

func (p *parser) asset(kind run.Kind, index int, doc []byte) error {
	o, err := newObject(doc)
	if err != nil {
		return err
	}
	if urlField(o) == "" { // perhaps one level down: {"image": {"url": ...}}
		known := len(p.answer.Assets)
		if err := p.inside(kind, o); err != nil || len(p.answer.Assets) > known {
			return err
		}
	}
	l, err := p.listed(kind, o)
	if err != nil {
		return err
	}
	p.add(l, index)
	return nil
}

// listed is what an object says of its asset. A further URL in it that nobody knows
// is reported like one anywhere else.
func (p *parser) listed(kind run.Kind, o *object) (run.Listed, error) {
	l := run.Listed{
		Kind:      kind,
		ID:        o.identifier("id"),
		Tool:      o.word("tool", maxWord),
		Width:     o.integer("width"),
		Height:    o.integer("height"),
		Duration:  o.seconds("duration"),
		CreatedAt: o.word("created_at", maxWord),
	}
	if field := urlField(o); field != "" {
		l.URL = text(o.get(field))
		o.drop(field)
	}
	if o.get("url") == nil { // null says nothing
		o.drop("url")
	}
	p.taken[l.URL] = true
	if len(o.fields) == 0 {
		return l, nil
	}
	for _, m := range o.fields {
		if name := string(kind) + "." + m.name; p.answer.Ignored[name] == nil && !roleOf(m.name).input && p.strange(m.value) {
			p.ignored(name, m.value)
		}
	}
	l.Extra = make(map[string]json.RawMessage, len(o.fields))
	return l, p.keep(l.Extra, o, "")
}

// add lists an asset under an id that is its own in this answer. The index, from
// 1, is its place in the list. Equal id and path is the same asset told twice.
func (p *parser) add(l run.Listed, index int) {
	if l.ID == "" {
		l.ID = string(l.Kind) + "-" + strconv.Itoa(index)
	}
	p.taken[l.URL] = true // as it came
	if l.URL = signedurl.Clean(l.URL); l.URL != "" {
		l.Source = signedurl.Source(l.URL)
		l.Expiry, _ = signedurl.Expiry(l.URL)
	}
	name := assetName{l.Kind, l.ID}
	file := assetFile{name, path(l.URL)}
	for _, same := range []assetFile{file, {name, ""}} {
		if at, ok := p.files[same]; ok {
			if better(l.URL, p.answer.Assets[at].URL) {
				l.ID = p.answer.Assets[at].ID
				p.answer.Assets[at] = l
				delete(p.files, same)
				p.files[file] = at
			}
			return
		}
	}
	if l.URL == "" && p.named[name] > 0 {
		return
	}
	for p.named[name]++; p.named[name] > 1; p.named[name]++ {
		l.ID = name.id + "#" + strconv.Itoa(p.named[name])
		if other := (assetName{l.Kind, l.ID}); p.named[other] == 0 {
			p.named[other] = 1
			break
		}
	}
	p.taken[l.URL] = true
	p.files[file] = len(p.answer.Assets)
	p.answer.Assets = append(p.answer.Assets, l)
}

// better reports whether url says more than the one at hand for the same asset:
// a whole asset is better than its preview, and that is better than nothing.
func better(url, than string) bool {
	return than == "" && url != "" || url != "" && preview(than) && !preview(url)
}

// preview reports whether the URL asks for a reduced copy.
func preview(url string) bool {
	_, query, _ := strings.Cut(url, "?")
	return strings.HasPrefix(query, "preview=") || strings.Contains(query, "&preview=")
}

// path is the path of a URL, by which two URLs are told apart as two files: the
// text as it came, nothing decoded; all of it where the URL holds the file itself. It is
// empty for no URL alone.
func path(url string) string {
	if url == "" || signedurl.IsData(url) {
		return url
	}
	if cut := strings.IndexAny(url, "?#"); cut >= 0 {
		url = url[:cut]
	}
	if _, rest, ok := strings.Cut(url, "://"); ok {
		_, url, _ = strings.Cut(rest, "/")
	}
	return "/" + url
}
