package config

import (
	"errors"
	"fmt"
	"strings"
)

// Token reads what server.listen asks for; empty where no file is set. The error
// names the file and the mend; it never holds the token.
func (s Server) Token() (string, error) { return tokenIn("server.token_file", s.TokenFile) }

// AddToken reads the token that may hand in and nothing else, as Token does.
func (s Server) AddToken() (string, error) { return tokenIn("server.add_token_file", s.AddTokenFile) }

// Secret reads what the API signs its webhooks with, as Token does.
func (w Webhook) Secret() (string, error) { return secretIn("webhook.secret_file", w.SecretFile) }

// leastToken is the shortest token that is taken, in bytes: a shorter one is guessed.
const leastToken = 16

func tokenIn(key, path string) (string, error) {
	token, err := secretIn(key, path)
	if err == nil && path != "" && len(token) < leastToken {
		return "", fmt.Errorf("%s %s holds %d characters, which can be guessed: write at least %d into it, like those of openssl rand -hex 32", key, path, len(token), leastToken)
	}
	return token, err
}

// secretIn reads the one line of a file that a key names; empty where it names none.
func secretIn(key, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	where := key + " " + path
	text, err := readSecret(path)
	var f fault
	switch {
	case errors.As(err, &f):
		return "", fmt.Errorf("%s %s: name a file that holds the secret alone", where, f.what)
	case err != nil:
		return "", fmt.Errorf("%s: %s: it must be a file that assetd can read", where, reason(err))
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", fmt.Errorf("%s is empty: write the secret into it", where)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s holds a space, a line break or another character that no secret has: write the secret into it and nothing else", where)
	}
	return text, nil
}
