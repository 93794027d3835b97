package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

const envPrefix = "ASSETD_"

func upper(name string) string { return strings.ToUpper(strings.ReplaceAll(name, ".", "_")) }

// environment is the process's environment by name.
type environment map[string]string

func newEnvironment(environ []string) environment {
	env := environment{}
	for _, line := range environ {
		name, text, _ := strings.Cut(line, "=")
		env[name] = text
	}
	return env
}

// xdg is a directory of the XDG base directory specification, which says that
// relative ones are to be ignored; empty where there is none.
func (e environment) xdg(name, below string) string {
	if dir := e[name]; filepath.IsAbs(dir) {
		return dir
	}
	if home := e["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, below)
	}
	return ""
}

// environmentLayer is what the variables of the keys set.
func (l *loader) environmentLayer(env environment) {
	for _, k := range l.order {
		if text, ok := env[k.envName()]; ok {
			l.set(k, value{text: text}, "environment "+k.envName())
		}
	}
}

// UnknownVariables warns of each variable in environ (as os.Environ gives it) that was
// probably meant for assetd and has no effect: one that begins with ASSETD_, or whose
// name differs in one or two letters, or in case alone, from one that is known. A
// warning names the variable and never its value.
func UnknownVariables(environ []string) []Warning { return unknownVariables(newEnvironment(environ)) }

// slipsInPrefix is how many letters a variable that does not begin with ASSETD_ may
// differ from a known one to be reported: other programs have variables, too.
const slipsInPrefix = 2

func unknownVariables(env environment) (warnings []Warning) {
	names := []string{fileVariable, ourKey}
	for _, k := range table() {
		names = append(names, k.envName())
	}
	known := map[string]bool{theirKey: true, "ASSETD_TEST_FULL": true}
	for _, name := range names {
		known[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if known[name] || env.fromHook(name) {
			continue
		}
		meant := ""
		switch {
		case strings.HasPrefix(name, envPrefix):
			meant = suggest(name, names)
		default:
			if meant = misspelled(name, append(names, theirKey)); meant == "" {
				continue
			}
		}
		text := "is not a variable that assetd knows and has no effect"
		if meant != "" {
			text += "; did you mean " + meant + "?"
		}
		warnings = append(warnings, Warning{Key: "environment " + name, Text: text})
	}
	return warnings
}

// misspelled is the known name that differs from name in no more than slipsInPrefix
// letters, without regard to case; empty where there is none.
func misspelled(name string, known []string) string {
	name = strings.ToUpper(name)
	for _, k := range known {
		if n := len(name) - len(k); n >= -slipsInPrefix && n <= slipsInPrefix && slips(name, k) <= slipsInPrefix {
			return k
		}
	}
	return ""
}

// fromHook reports whether a variable is one that hook.command gets, in the environment
// that it gets: so does assetd where the hook calls it.
func (e environment) fromHook(name string) bool {
	_, hook := e[envPrefix+"EVENT"]
	return hook && hookVariable(name)
}
