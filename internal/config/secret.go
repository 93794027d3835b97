package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoKey is what APIKey gives where no API key was given in any way.
var ErrNoKey = errors.New("no API key: write it into a file and set api.key_file, or set $ASSETD_API_KEY, or give the systemd credential api-key (" + unitKey + ")")

// ErrServiceKey is what APIKey gives where the only API key is the service's file, which
// this user cannot read.
var ErrServiceKey = errors.New("no API key that this user can read")

// unitKey is the file that the unit gives the service as the credential (LoadCredential).
const unitKey = "/etc/assetd/api-key"

// The variables that may hold the key itself, and the name of the credential.
const (
	ourKey     = "ASSETD_API_KEY"
	theirKey   = "MAGNIFIC_API_KEY"
	credential = "api-key"
)

// KeyVariables are the environment variables that may hold the API key.
func KeyVariables() []string { return []string{ourKey, theirKey} }

// maxKey is more than any key has, in bytes.
const maxKey = 4 << 10

// source is one place where the key can be.
type source struct {
	name string // for people
	path string // of a file; empty: the environment variable `name`
	unit bool   // the file of the service
}

// sources are the places that hold a key, the one that counts first. Like all
// settings: --set before the environment, before the file; then what was not
// meant for assetd alone, then what the service manager gives. Where there is none of
// these, commands outside the service find its key in its file.
func (c *Config) sources() []source {
	var found []source
	add := func(when bool, name, path string) {
		if when {
			found = append(found, source{name: name, path: path})
		}
	}
	file, set := c.API.KeyFile, c.origins["api.key_file"] == "--set"
	add(file != "" && set, "api.key_file", file)
	add(c.env[ourKey] != "", "$"+ourKey, "")
	add(file != "" && !set, "api.key_file", file)
	add(c.env[theirKey] != "", "$"+theirKey, "")
	if dir := c.env["CREDENTIALS_DIRECTORY"]; dir != "" {
		path := filepath.Join(dir, credential)
		info, err := os.Stat(path)
		// The unit's SetCredential= is an empty line where there is no key.
		none := errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= 1
		add(!none, "systemd credential "+credential, path)
	}
	if info, err := os.Stat(c.unitKey); len(found) == 0 && err == nil && info.Size() > 1 {
		found = append(found, source{"the service's file", c.unitKey, true})
	}
	return found
}

// APIKey reads the API key anew: from --set api.key_file, else $ASSETD_API_KEY,
// else api.key_file, else $MAGNIFIC_API_KEY, else the systemd credential
// `api-key`, else the file that the unit makes that of. One newline at its end is
// dropped. The error is ErrNoKey or ErrServiceKey, or names the place and the mend; it
// never holds the key.
func (c *Config) APIKey() (string, error) {
	found := c.sources()
	if len(found) == 0 {
		return "", ErrNoKey
	}
	from := found[0]
	if from.path == "" {
		return plainKey(from.name, c.env[strings.TrimPrefix(from.name, "$")])
	}
	where := from.name + " " + from.path
	text, err := readSecret(from.path)
	var f fault
	switch {
	case errors.As(err, &f):
		return "", fmt.Errorf("%s %s: %s", where, f.what, f.mend)
	case from.unit && errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: %s is read by root and the service alone: use sudo, or give a key of your own in $ASSETD_API_KEY", ErrServiceKey, from.path)
	case err != nil:
		return "", fmt.Errorf("%s: %s: it must be a file that user %d can read", where, reason(err), c.uid)
	}
	return plainKey(where, text)
}

// keyFrom says where the key comes from, without it.
func (c *Config) keyFrom() string {
	found := c.sources()
	if len(found) == 0 {
		return "none"
	}
	text := "from " + found[0].name + " " + notShown
	for _, other := range found[1:] {
		text += ", not from " + other.name
	}
	return text
}

// readSecret reads a small regular file. A pipe or a device could keep us waiting
// for ever. The error is a fault where the file itself is not one that holds a key.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	switch {
	case info.IsDir():
		return "", fault{"is a directory", "name the file in it that holds the API key"}
	case !info.Mode().IsRegular():
		return "", fault{"is not a regular file", "name a file that holds the API key"}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(data) > maxKey {
		err = fault{fmt.Sprintf("is larger than %d bytes, so it is no key", maxKey), "write the API key into it and nothing else, or name another file"}
	}
	return string(data), err
}

// plainKey is the key in text: visible ASCII, as a header can hold.
func plainKey(where, text string) (string, error) {
	key := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if strings.TrimSpace(key) == "" {
		return "", fmt.Errorf("%s is empty: write the API key into it", where)
	}
	switch {
	case strings.ContainsAny(key, "\n\r"):
		return "", fmt.Errorf("%s holds more than one line: write the API key into it and nothing else", where)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s holds a space or another character that no API key has: write the API key into it and nothing else", where)
	case strings.HasPrefix(key, ourKey+"="), strings.HasPrefix(key, theirKey+"="), strings.ContainsAny(key[:1], `"'`):
		return "", fmt.Errorf("%s holds more than the key: write the API key alone, without quotes and without a name before it", where)
	}
	return key, nil
}
