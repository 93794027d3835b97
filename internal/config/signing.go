package config

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// secretPrefix is what Standard Webhooks writes before a secret in base64.
const secretPrefix = "whsec_"

// Bounds of a secret that signs webhooks: its least length in bytes, once decoded (a
// shorter key can be guessed; RFC 2104, 3, and Standard Webhooks advise 32), and how many
// a file may hold, since each is tried on each delivery.
const (
	leastSecret = 16
	mostSecrets = 8
)

// Keys reads the keys that the API may have signed a webhook with; nil where no file is
// set. The file has one secret per line, so that a delivery is accepted while the secret is
// being changed; blank lines and comments from # on are skipped. The API's documentation
// says to use the bytes of the secret, Standard Webhooks says base64, with or without
// whsec_: Keys returns the key of each reading. The error names file, line and hint; it
// never holds the secret.
func (w Webhook) Keys() ([][]byte, error) {
	const name = "webhook.secret_file"
	if w.SecretFile == "" {
		return nil, nil
	}
	text, err := secretText(name, w.SecretFile)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	secrets, number := 0, 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		number++
		secret := secretLine(line)
		if secret == "" {
			continue
		}
		where := fmt.Sprintf("%s %s, line %d", name, w.SecretFile, number)
		found, err := keysOf(where, secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, found...)
		secrets++
	}
	switch {
	case secrets == 0:
		return nil, fmt.Errorf("%s %s is empty: write the secret into it", name, w.SecretFile)
	case secrets > mostSecrets:
		return nil, fmt.Errorf("%s %s holds %d secrets: keep at most %d, those that are in use", name, w.SecretFile, secrets, mostSecrets)
	}
	return keys, nil
}

// secretLine is the secret that a line holds; empty where there is none.
func secretLine(line string) string {
	line = strings.TrimSpace(line)
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return strings.TrimSpace(line[:i])
		}
	}
	return line
}

// keysOf are the keys that a secret stands for, the bytes as they are written first.
func keysOf(where, secret string) ([][]byte, error) {
	if err := visible(where, secret); err != nil {
		return nil, err
	}
	bare, prefixed := strings.CutPrefix(secret, secretPrefix)
	decoded := fromBase64(bare)
	if size := len(bare); size < leastSecret || prefixed && decoded != nil && len(decoded) < leastSecret {
		if prefixed && decoded != nil {
			size = len(decoded)
		}
		return nil, tooShort(where, size)
	}
	keys := [][]byte{[]byte(bare)}
	if prefixed {
		keys = append(keys, []byte(secret))
	}
	if len(decoded) >= leastSecret {
		keys = append(keys, decoded)
	}
	return keys, nil
}

// fromBase64 decodes base64 in either alphabet, padded or not; nil where it is none.
func fromBase64(text string) []byte {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return data
}

// Secret reads what signs that which is sent to hook.url, as Standard Webhooks has it;
// empty where no file is set. The error names the file and the hint; it never holds the
// secret.
func (h Hook) Secret() (string, error) {
	const name = "hook.secret_file"
	secret, err := secretIn(name, h.SecretFile)
	if err != nil || secret == "" {
		return "", err
	}
	where := name + " " + h.SecretFile
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s holds no secret of Standard Webhooks, base64 with or without whsec_ before it: "+
			"take the other side's, or make one for both: echo whsec_$(openssl rand -base64 32)", where) // the cause would show some of it
	case len(key) < leastSecret:
		return "", tooShort(where, len(key))
	}
	return secret, nil
}

func tooShort(where string, size int) error {
	return fmt.Errorf("%s holds a secret of %d bytes, which can be guessed: take one of at least %d, "+
		"like those of echo whsec_$(openssl rand -base64 32)", where, size, leastSecret)
}
