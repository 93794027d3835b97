package config

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// decoded is what base64 stands for.
func decoded(t *testing.T, text string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Whether the sender uses the bytes of the secret or what it stands for in base64 is not
// known: both are its keys.
func TestCase_D1_ASecretIsReadAsBytesAndAsBase64(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	const standard = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for name, c := range map[string]struct {
		text string
		want []string // among the keys
	}{
		"64 hex digits":                {hex, []string{hex, decoded(t, hex)}},
		"base64":                       {standard, []string{standard, decoded(t, standard)}},
		"whsec_ and base64":            {"whsec_" + standard, []string{standard, "whsec_" + standard, decoded(t, standard)}},
		"whsec_ and no base64":         {"whsec_not-base64:of-24-bytes", []string{"not-base64:of-24-bytes"}},
		"no base64":                    {"not-base64:of-24-bytes", []string{"not-base64:of-24-bytes"}},
		"base64 without padding":       {"MDEyMzQ1Njc4OWFiY2RlZg", []string{"MDEyMzQ1Njc4OWFiY2RlZg", "0123456789abcdef"}},
		"base64 with padding":          {"MDEyMzQ1Njc4OWFiY2RlZg==", []string{"MDEyMzQ1Njc4OWFiY2RlZg==", "0123456789abcdef"}},
		"base64 of URLs":               {"-_-_MDEyMzQ1Njc4OWFiY2Rl", []string{"-_-_MDEyMzQ1Njc4OWFiY2Rl", decoded(t, "-_-_MDEyMzQ1Njc4OWFiY2Rl")}},
		"16 bytes, 12 once decoded":    {"0123456789abcdef", []string{"0123456789abcdef"}},
		"a line of DOS with blanks":    {"  " + hex + " \t\r\n", []string{hex}},
		"a byte order mark":            {"\ufeff" + hex + "\n", []string{hex}},
		"comments and blank lines":     {"# ours\n\n" + hex + " # until May\r\n\t# theirs\n" + standard + "\n\n", []string{hex, standard, decoded(t, standard)}},
		"a # that is of the secret":    {"abc#defghijklmnopqrstuv", []string{"abc#defghijklmnopqrstuv"}},
		"no line feed after the last":  {hex + "\n" + standard, []string{hex, standard}},
		"two lines as a key's rotated": {"whsec_" + standard + "\nwhsec_" + base64.StdEncoding.EncodeToString([]byte(hex)) + "\n", []string{decoded(t, standard), hex}},
	} {
		keys, err := Webhook{SecretFile: write(t, "secret", c.text)}.Keys()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == want }) {
				t.Errorf("%s: %q is not among the keys %q", name, want, keys)
			}
		}
		for _, k := range keys {
			if len(k) < 16 {
				t.Errorf("%s: a key of %d bytes", name, len(k))
			}
		}
	}
	if keys, err := (Webhook{}).Keys(); keys != nil || err != nil {
		t.Errorf("no file: %q, %v", keys, err)
	}
}

func TestCase_G5_ASecretThatCanBeGuessedIsRefused(t *testing.T) {
	good := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for name, text := range map[string]string{
		"nothing after whsec_":         "whsec_",
		"one byte":                     "x",
		"one byte in base64":           "whsec_eA==",
		"padding alone":                "whsec_====",
		"15 bytes":                     "planted-planted",
		"15 bytes after whsec_":        "whsec_planted-planted",
		"15 bytes in base64":           "whsec_cGxhbnRlZHBsYW50ZWRw",
		"10 bytes in base64":           "whsec_cGxhbnRlZHBsYQ==",
		"one byte in the second line":  good + "\nx\n",
		"whsec_ in the second line":    good + "\nwhsec_\n",
		"whsec_ and a comment":         "whsec_ # MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
		"nothing":                      "",
		"blank lines":                  "\n\r\n  \n",
		"a comment":                    "# whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
		"a blank inside":               "planted planted planted",
		"not ASCII":                    "plantéd-planted-planted",
		"a NUL":                        "planted\x00planted-planted",
		"more than anybody has in use": strings.Repeat(good+"\n", 9),
	} {
		file := write(t, "secret", text)
		_, err := Webhook{SecretFile: file}.Keys()
		if err == nil || !strings.Contains(err.Error(), "webhook.secret_file "+file) || strings.Contains(err.Error(), "planted") {
			t.Errorf("receiving, %s: %v", name, err)
		}
		if text == good+"\n" || strings.Count(text, good) > 0 {
			continue // one line is all that hook.secret_file holds: refused as such
		}
		secret, err := Hook{SecretFile: file}.Secret()
		if err == nil || secret != "" || !strings.Contains(err.Error(), "hook.secret_file "+file) || strings.Contains(err.Error(), "planted") {
			t.Errorf("sending, %s: %q, %v", name, secret, err)
		}
	}
	// One that is base64 of 12 bytes signs nothing either: its receiver decodes it.
	if _, err := (Hook{SecretFile: write(t, "secret", "0123456789abcdef")}).Secret(); err == nil || !strings.Contains(err.Error(), "12 bytes, which can be guessed") {
		t.Errorf("sending, 12 bytes: %v", err)
	}
	for _, text := range []string{good, "MDEyMzQ1Njc4OWFiY2RlZg=="} {
		if _, err := (Hook{SecretFile: write(t, "secret", text)}).Secret(); err != nil {
			t.Errorf("sending: %v", err)
		}
	}
}
