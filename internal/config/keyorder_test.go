package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyPlaces are the places that can hold the API key, the one that counts first, as the
// documents write them.
var keyPlaces = []string{"--set api.key_file", "$ASSETD_API_KEY", "api.key_file", "$MAGNIFIC_API_KEY", "systemd credential", "/etc/assetd/api-key"}

func TestCase_E9_TheKeyComesFromTheFirstPlaceInTheOrderOfTheDocuments(t *testing.T) {
	// One entry for each of keyPlaces; the key is named after its place.
	for first := range keyPlaces {
		var o Options
		if first <= 0 {
			o.Set = []string{"api.key_file=" + write(t, "set", "from-0")}
		}
		if first <= 1 {
			o.Environ = append(o.Environ, "ASSETD_API_KEY=from-1")
		}
		text := ""
		if first <= 2 {
			text = "api: {key_file: " + write(t, "file", "from-2") + "}\n"
		}
		if first <= 3 {
			o.Environ = append(o.Environ, "MAGNIFIC_API_KEY=from-3")
		}
		if first <= 4 {
			credentials := t.TempDir()
			if err := os.WriteFile(filepath.Join(credentials, "api-key"), []byte("from-4"), 0o600); err != nil {
				t.Fatal(err)
			}
			o.Environ = append(o.Environ, "CREDENTIALS_DIRECTORY="+credentials)
		}
		c, _ := load(t, text, o)
		c.unitKey = write(t, "unit", "from-5\n")
		if got, err := c.APIKey(); err != nil || got != "from-"+string(rune('0'+first)) {
			t.Errorf("%s should count: %q, %v", keyPlaces[first], got, err)
		}
		// The variable of api.key_file is api.key_file.
		if first == 2 {
			o.Environ = append(o.Environ, "ASSETD_API_KEY_FILE="+write(t, "variable", "from-variable"))
			c, _ := load(t, text, o)
			if got, err := c.APIKey(); err != nil || got != "from-variable" {
				t.Errorf("$ASSETD_API_KEY_FILE: %q, %v", got, err)
			}
		}
	}
	for _, file := range []string{reference, sample} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(strings.NewReplacer("#", " ", "`", "").Replace(string(data))), " ")
		_, rest, found := strings.Cut(text, "The key comes from the first of ")
		if !found {
			t.Errorf("%s does not say where the key comes from", file)
		}
		for _, place := range keyPlaces {
			i := strings.Index(rest, place)
			if i < 0 || i > 300 {
				t.Errorf("%s: %q is not in its place in the order", file, place)
				break
			}
			rest = rest[i+len(place):]
		}
	}
}

func TestCase_E1_CommandsFindTheFileThatTheUnitGivesTheService(t *testing.T) {
	loaded := directives(t, unitFile)["LoadCredential"]
	if len(loaded) != 1 || loaded[0] != credential+":"+unitKey {
		t.Errorf("the unit's LoadCredential is %q, commands look for %s", loaded, unitKey)
	}
	if data, err := os.ReadFile("../../deploy/README.md"); err != nil || !strings.Contains(string(data), unitKey) {
		t.Errorf("deploy/README.md does not name %s: %v", unitKey, err)
	}
	for name, c := range map[string]struct {
		text, key string
		is        error
	}{
		"a key":         {"the-key\n", "the-key", nil},
		"no line break": {"the-key", "the-key", nil},
		"an empty line": {"\n", "", ErrNoKey},
		"empty":         {"", "", ErrNoKey},
	} {
		cfg, warnings := load(t, "", Options{})
		cfg.unitKey = write(t, "api-key", c.text)
		if got, err := cfg.APIKey(); got != c.key || !errors.Is(err, c.is) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if len(warnings) > 0 {
			t.Errorf("%s: %v", name, warnings)
		}
	}
	cfg, _ := load(t, "", Options{})
	cfg.unitKey = write(t, "api-key", "two\nlines\n")
	if _, err := cfg.APIKey(); err == nil || !strings.Contains(err.Error(), cfg.unitKey+" holds more than one line") {
		t.Errorf("two lines: %v", err)
	}
	cfg.unitKey = filepath.Join(t.TempDir(), "none")
	if _, err := cfg.APIKey(); !errors.Is(err, ErrNoKey) {
		t.Errorf("none: %v", err)
	}
}
