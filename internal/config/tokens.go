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
	text, err := secretText(key, path)
	if err != nil {
		return "", err
	}
	where := key + " " + path
	if text = strings.TrimSpace(text); text == "" {
		return "", fmt.Errorf("%s is empty: write the secret into it", where)
	}
	return text, visible(where, text)
}

// secretText reads the file of a secret.
func secretText(key, path string) (string, error) {
	text, err := readSecret(path)
	var f fault
	switch {
	case errors.As(err, &f):
		return "", fmt.Errorf("%s %s %s: name a file that holds the secret alone", key, path, f.what)
	case err != nil:
		return "", fmt.Errorf("%s %s: %s: it must be a file that assetd can read", key, path, reason(err))
	}
	return text, nil
}

// visible refuses what a secret cannot hold: all but visible ASCII.
func visible(where, secret string) error {
	if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s holds a space, a line break or another character that no secret has: write the secret into it and nothing else", where)
	}
	return nil
}
