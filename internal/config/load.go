package config

import (
	"errors"
	"path/filepath"
	"strings"

	kmaps "github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
)

// Options say where a configuration comes from.
type Options struct {
	File    string   // --config; empty: looked for
	Set     []string // --set, each key=value; the last of a key counts
	Environ []string // as os.Environ gives it
	UID     int      // as os.Geteuid gives it: root has another data_dir, and messages name it
	Version string   // of the program, for download.user_agent; empty: none is named
}

// Load reads the configuration: --set before the environment, before the file,
// before the defaults. The file is the one named by o.File, else by
// $ASSETD_CONFIG; else the first that exists of SystemFile and
// $XDG_CONFIG_HOME/assetd/assetd.yaml; else none. The error is an *Error that
// holds all that is wrong; warnings come with and without one.
func Load(o Options) (*Config, []Warning, error) {
	env := newEnvironment(o.Environ)
	l := newLoader()
	paths, must := places(o.File, env)
	file, data := l.readFirst(paths, must, o.UID)
	if data != nil {
		l.layer(func() { l.fileLayer(file, data) })
	}
	l.layer(func() { l.environmentLayer(env) })
	l.warnings = append(l.warnings, unknownVariables(env)...)
	l.layer(func() { l.setLayer(o.Set) })
	l.layer(func() { l.derive(env, o.UID); l.deriveAgent(o.Version) })

	c := &Config{file: file, values: l.merged.All(), origins: l.origins, env: env, uid: o.UID, unitKey: unitKey}
	if err := l.merged.Unmarshal("", c); err != nil {
		return nil, l.warnings, err // a key and its field disagree, which a test rules out
	}
	_, set := l.origins["storage.dir"]
	c.Storage.Default = !set
	l.judge(c)
	if len(l.problems) > 0 {
		return nil, l.warnings, &Error{l.problems}
	}
	return c, append(l.warnings, c.unwise()...), nil
}

// loader gathers layers. Each holds values that were read and checked by their
// keys; koanf puts one over the other and fills the fields.
type loader struct {
	order    []key
	keys     map[string]key
	names    []string // the keys, and the sections before their first key
	sections map[string]bool
	current  layer
	merged   *koanf.Koanf
	origins  map[string]string
	bad      map[string]bool // keys with a problem: what is said of others by them would mislead
	problems []Problem
	warnings []Warning
}

func newLoader() *loader {
	l := &loader{
		order: table(), keys: map[string]key{}, sections: map[string]bool{},
		merged: koanf.New("."), origins: map[string]string{}, bad: map[string]bool{},
	}
	defaults := layer{}
	for _, k := range l.order {
		l.keys[k.name] = k
		if section, _ := cutLast(k.name); section != "" && !l.sections[section] {
			l.sections[section] = true
			l.names = append(l.names, section)
		}
		l.names = append(l.names, k.name)
		defaults[k.name] = k.standard()
	}
	l.merge(defaults)
	return l
}

// standard is the key's default, read.
func (k key) standard() any {
	v, err := k.kind.read(value{text: k.initial})
	if err != nil {
		return nil // no key's default is at fault: a test reads them all
	}
	return v
}

// layer is a koanf.Provider of values by key.
type layer map[string]any

// Read gives the layer's values nested by section.
func (y layer) Read() (map[string]any, error) { return kmaps.Unflatten(y, "."), nil }

// ReadBytes is what koanf asks of providers that need a parser.
func (y layer) ReadBytes() ([]byte, error) { return nil, errors.New("a layer is not bytes") }

func (l *loader) merge(y layer) {
	_ = l.merged.Load(y, nil) // Read never fails, and nothing else can
}

// layer gathers what fill sets and puts it over what is there.
func (l *loader) layer(fill func()) {
	l.current = layer{}
	fill()
	l.merge(l.current)
}

// set takes a value for a key into the current layer.
func (l *loader) set(k key, v value, from string) {
	if v.tag == tagNull && k.initial == "" {
		v = value{tag: tagText, list: k.kind.list} // nothing and the default are the same
	}
	read, err := k.kind.read(v)
	var f fault
	if errors.As(err, &f) {
		l.bad[k.name] = true
		l.problem(Problem{Where: from, Key: k.name, Value: k.kind.quoted(v), What: f.what, Mend: f.mend})
		return
	}
	l.current[k.name] = read
	l.origins[k.name] = from
	if read == "" && k.initial == "" {
		delete(l.origins, k.name)
	}
}

func (l *loader) problem(p Problem) { l.problems = append(l.problems, p) }

func (l *loader) unknown(where, name string, v value) {
	mend := "configs/assetd.yaml holds all keys"
	if meant := suggest(name, l.names); meant != "" {
		mend = "did you mean " + meant + "?"
	}
	l.problem(Problem{Where: where, Key: name, Value: strange(name, v), What: "is not a key", Mend: mend})
}

// setLayer is what --set says.
func (l *loader) setLayer(settings []string) {
	for _, setting := range settings {
		name, text, found := strings.Cut(setting, "=")
		k, known := l.keys[name]
		switch {
		case !found:
			l.problem(Problem{Where: "--set", Key: brief(name, 80), What: "has no value", Mend: "write --set key=value"})
		case !known:
			l.unknown("--set", brief(name, 80), value{text: text})
		default:
			l.set(k, value{text: text}, "--set")
		}
	}
}

// derive fills in the directories that were not set.
func (l *loader) derive(env environment, uid int) {
	data := l.merged.String("data_dir")
	if data == "" {
		data = defaultDataDir(env, uid)
	}
	for _, dir := range []struct{ key, name string }{
		{"drop.dir", "drop"}, {"state.dir", "state"}, {"storage.dir", "assets"},
	} {
		if l.merged.String(dir.key) != "" {
			continue
		}
		l.current[dir.key] = filepath.Join(data, dir.name)
		if data == "" && !l.bad["data_dir"] {
			l.bad["data_dir"] = true // once is enough
			l.problem(Problem{Key: "data_dir", What: "has no default: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME is set", Mend: "set data_dir"})
		}
	}
	l.current["data_dir"] = data
}

// defaultDataDir is the first directory that systemd made for the service, or
// where such things belong; empty where nothing says.
func defaultDataDir(env environment, uid int) string {
	first, _, _ := strings.Cut(env["STATE_DIRECTORY"], ":")
	switch {
	case filepath.IsAbs(first):
		return filepath.Clean(first)
	case uid == 0:
		return "/var/lib/assetd"
	}
	if dir := env.xdg("XDG_STATE_HOME", filepath.Join(".local", "state")); dir != "" {
		return filepath.Join(dir, "assetd")
	}
	return ""
}
