package config

import (
	"net/url"
	"strings"
)

// Argv is the command's program and arguments: words apart by spaces, as a shell
// has them with quotes and backslashes and nothing else; nil where there is none.
func (h Hook) Argv() []string {
	words, _ := words(h.Command) // Load took only what can be read
	return words
}

// words takes a command line apart. It knows '…', in which all stands for itself,
// "…" and \, which takes from a quote, a space or a backslash what it means.
func words(line string) (all []string, err error) {
	var word strings.Builder
	begun := false
	quote := rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case quote == 0 && strings.ContainsRune(" \t\r\n", r):
			if begun {
				all = append(all, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, fault{"has a quote or a backslash at its end without what belongs to it", "close it, or put a backslash before it"}
	}
	if begun {
		all = append(all, word.String())
	}
	return all, nil
}

func (c *Config) unwiseHook() []Warning {
	var warnings []Warning
	warn := func(when bool, key, text string) {
		if when {
			warnings = append(warnings, Warning{key, text})
		}
	}
	u, err := url.Parse(c.Hook.URL)
	local := err == nil && loopback(u.Hostname())
	warn(err == nil && u.Scheme == "http" && !local, "hook.url", "is http: what is told crosses the network in the clear")
	warn(c.Hook.URL != "" && c.Hook.SecretFile == "", "hook.secret_file", "is not set: what is sent to hook.url is not signed")
	warn(c.Hook.URL == "" && c.Hook.SecretFile != "", "hook.secret_file", "has no effect without hook.url")
	warn(openToOthers(c.Hook.SecretFile), "hook.secret_file", c.Hook.SecretFile+" can be read by every user of this machine: chmod o-rwx it")
	return warnings
}

// hookVariable reports whether a variable is one that hook.command gets.
func hookVariable(name string) bool {
	switch name = strings.TrimPrefix(name, envPrefix); name {
	case "EVENT", "IDEMPOTENCY_KEY", "TEXT", "RUN_ID", "APP_ID", "STATE", "DIR", "MANIFEST", "ASSET_KIND", "ASSET_ID":
		return true
	}
	return strings.HasPrefix(name, "LABEL_")
}
