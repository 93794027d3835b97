package config

import (
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
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

	c := &Config{file: file, values: l.values, origins: l.origins, env: env, uid: o.UID, unitKey: unitKey}
	c.fill()
	_, set := l.origins["storage.dir"]
	c.Storage.Default = !set
	l.judge(c)
	if len(l.problems) > 0 {
		return nil, l.warnings, &Error{l.problems}
	}
	return c, append(l.warnings, c.unwise()...), nil
}

// fill sets the fields to the values of their keys.
func (c *Config) fill() { fill(reflect.ValueOf(c).Elem(), "", c.values) }

// fill sets the fields of a section, whose tags name their keys below prefix. It panics
// where a key and its field differ in type; which does not depend on what is configured.
func fill(section reflect.Value, prefix string, values map[string]any) {
	for field, target := range section.Fields() {
		name, tagged := field.Tag.Lookup("key")
		switch {
		case !tagged || name == "-":
		case field.Type.Kind() == reflect.Struct:
			fill(target, prefix+name+".", values)
		default:
			target.Set(reflect.ValueOf(values[prefix+name]))
		}
	}
}

// loader gathers layers, each of which overrides the values of those before it. All
// values were read and checked by their keys.
type loader struct {
	order    []key
	keys     map[string]key
	names    []string // the keys, and the sections before their first key
	sections map[string]bool
	current  map[string]any // the layer being filled, by key
	values   map[string]any // of the layers before, by key
	origins  map[string]string
	bad      map[string]bool // keys with a problem: what is said of others by them would mislead
	problems []Problem
	warnings []Warning
}

func newLoader() *loader {
	l := &loader{
		order: table(), keys: map[string]key{}, sections: map[string]bool{},
		values: map[string]any{}, origins: map[string]string{}, bad: map[string]bool{},
	}
	for _, k := range l.order {
		l.keys[k.name] = k
		if section, _ := cutLast(k.name); section != "" && !l.sections[section] {
			l.sections[section] = true
			l.names = append(l.names, section)
		}
		l.names = append(l.names, k.name)
		l.values[k.name] = k.standard()
	}
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

// layer gathers the values that set sets, which then override those of the layers before.
func (l *loader) layer(set func()) {
	l.current = map[string]any{}
	set()
	maps.Copy(l.values, l.current)
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
	data := l.values["data_dir"]
	if data == "" {
		data = defaultDataDir(env, uid)
	}
	for _, dir := range []struct{ key, name string }{
		{"drop.dir", "drop"}, {"state.dir", "state"}, {"storage.dir", "assets"},
	} {
		if l.values[dir.key] != "" {
			continue
		}
		l.current[dir.key] = filepath.Join(data.(string), dir.name)
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
