package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAPIKeyComesFromTheFirstPlaceThatHasOne(t *testing.T) {
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "api-key"), []byte("from-credential\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	file := write(t, "key", "from-file\n")
	emptyLine := t.TempDir()
	if err := os.WriteFile(filepath.Join(emptyLine, "api-key"), []byte("\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	ours, theirs, unit := "ASSETD_API_KEY=from-ours", "MAGNIFIC_API_KEY=from-theirs", "CREDENTIALS_DIRECTORY="+credentials
	inFile := "api:\n  key_file: " + file + "\n"
	for name, c := range map[string]struct {
		text    string
		set     []string
		environ []string
		want    string
		doubt   bool // more than one place: a warning
	}{
		"--set":                  {"", []string{"api.key_file=" + file}, []string{ours, theirs, unit}, "from-file", true},
		"$ASSETD_API_KEY":        {inFile, nil, []string{ours, theirs, unit}, "from-ours", true},
		"api.key_file":           {inFile, nil, []string{theirs, unit}, "from-file", true},
		"$MAGNIFIC_API_KEY":      {"", nil, []string{theirs, unit}, "from-theirs", true},
		"credential":             {"", nil, []string{unit}, "from-credential", false},
		"empty variables":        {"", nil, []string{"ASSETD_API_KEY=", "MAGNIFIC_API_KEY=", unit}, "from-credential", false},
		"a unit's empty line":    {inFile, nil, []string{"CREDENTIALS_DIRECTORY=" + emptyLine}, "from-file", false},
		"a unit without the key": {inFile, nil, []string{"CREDENTIALS_DIRECTORY=" + t.TempDir()}, "from-file", false},
	} {
		cfg, warnings := load(t, c.text, Options{Set: c.set, Environ: c.environ})
		if got, err := cfg.APIKey(); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
		if doubt := len(warnings) > 0; doubt != c.doubt {
			t.Errorf("%s: warnings %v", name, warnings)
		}
	}
	cfg, _ := load(t, "", Options{})
	if _, err := cfg.APIKey(); !errors.Is(err, ErrNoKey) {
		t.Errorf("no key anywhere: %v", err)
	}
}

func TestAPIKeyIsReadAnew(t *testing.T) {
	file := write(t, "key", "one")
	cfg, _ := load(t, "", Options{Set: []string{"api.key_file=" + file}})
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(want+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := cfg.APIKey(); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestAKeyThatCannotBeUsedIsNamedAndNotShown(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"):            ": no such file or directory: it must be a file that user 1000 can read",
		dir:                                   " is a directory: name the file in it that holds the API key",
		fifo:                                  " is not a regular file: name a file that holds the API key",
		write(t, "empty", ""):                 " is empty: write the API key into it",
		write(t, "newline", "\n"):             " is empty: write the API key into it",
		write(t, "spaces", " \t\n"):           " is empty: write the API key into it",
		write(t, "two", "planted\nplanted\n"): " holds more than one line: write the API key into it and nothing else",
		write(t, "newlines", "planted\r\n\n"): " holds more than one line: write the API key into it and nothing else",
		write(t, "bom", "\ufeffplanted"):      " holds a space or another character that no API key has: write the API key into it and nothing else",
		write(t, "environment", "ASSETD_API_KEY=planted\n"): " holds more than the key: write the API key alone, without quotes and without a name before it",
		write(t, "quotes", "\"planted\"\n"):                 " holds more than the key: write the API key alone, without quotes and without a name before it",
		write(t, "large", strings.Repeat("planted", 1000)):  " is larger than 4096 bytes, so it is no key: write the API key into it and nothing else, or name another file",
	} {
		cfg, _ := load(t, "", Options{Set: []string{"api.key_file=" + path}})
		_, err := cfg.APIKey()
		if err == nil || err.Error() != "api.key_file "+path+want {
			t.Errorf("%s: %v\nwant api.key_file %s%s", filepath.Base(path), err, path, want)
		}
		if err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("the key is shown: %v", err)
		}
	}
	cfg, _ := load(t, "", Options{Environ: []string{"ASSETD_API_KEY=a b"}})
	if _, err := cfg.APIKey(); err == nil || !strings.HasPrefix(err.Error(), "$ASSETD_API_KEY holds a space") {
		t.Errorf("a variable with a space: %v", err)
	}
}

func TestTheKeyItselfIsNoSetting(t *testing.T) {
	_, _, err := Load(Options{File: "/dev/null", Set: []string{"api.api_key=planted"}})
	if err == nil || strings.Contains(err.Error(), "planted") {
		t.Errorf("the key itself as a setting: %v", err)
	}
}
