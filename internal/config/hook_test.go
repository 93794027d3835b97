package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestACommandIsTakenApartAsAShellWouldAndNoFurther(t *testing.T) {
	for line, want := range map[string][]string{
		"":                            nil,
		"  ":                          nil,
		"/bin/hook":                   {"/bin/hook"},
		" /bin/hook\t--to  you\n":     {"/bin/hook", "--to", "you"},
		`a 'b  c' "d 'e'" f\ g`:       {"a", "b  c", "d 'e'", "f g"},
		`a '' ""`:                     {"a", "", ""},
		`a "say \"it\" \\ \n" 'x\y'`:  {"a", `say "it" \ \n`, `x\y`},
		`a $HOME ~ * ; | && > b #c`:   {"a", "$HOME", "~", "*", ";", "|", "&&", ">", "b", "#c"},
		`/opt/hook --label=a"b c"'d'`: {"/opt/hook", "--label=ab cd"},
	} {
		if d := cmp.Diff(want, Hook{Command: line}.Argv()); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
	for _, line := range []string{`a "b`, `a 'b`, `a \`} {
		if _, _, err := Load(Options{Set: []string{"hook.command=" + line}}); err == nil || !strings.Contains(err.Error(), "has a quote or a backslash") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestTheSecretOfTheHookIsBase64AndNotShown(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":         "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"\n":                                       "",
		"planted secret":                           "",
		strings.Repeat("A", 5000):                  "",
	} {
		file := filepath.Join(dir, "secret")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Hook{SecretFile: file}.Secret()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), "hook.secret_file "+file)) {
			t.Errorf("%v", err)
		}
	}
	if _, err := (Hook{SecretFile: filepath.Join(dir, "none")}).Secret(); err == nil || !strings.Contains(err.Error(), "hook.secret_file") {
		t.Errorf("%v", err)
	}
	if secret, err := (Hook{}).Secret(); secret != "" || err != nil {
		t.Errorf("%q, %v", secret, err)
	}
}

func TestCase_D4_AHookHasItsOwnTimeLimit(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 30 * time.Second, "2h": 2 * time.Hour, "24h": 24 * time.Hour, "100ms": 100 * time.Millisecond} {
		set := []string{}
		if text != "" {
			set = append(set, "hook.timeout="+text)
		}
		c, _, err := Load(Options{File: "/dev/null", Set: set})
		if err != nil || c.Hook.Timeout != want {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	}
	for _, text := range []string{"25h", "24h1ms", "0s", "99ms", "30", "1d"} {
		if _, _, err := Load(Options{File: "/dev/null", Set: []string{"hook.timeout=" + text}}); err == nil || !strings.Contains(err.Error(), "hook.timeout") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, _, err := Load(Options{File: "/dev/null", Set: []string{"hook.timeout=25h"}}); err == nil || !strings.Contains(err.Error(), "write 100ms to 24h") {
		t.Errorf("%v", err)
	}
}
