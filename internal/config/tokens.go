package config

import (
	"encoding/base64"
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
func (w Webhook) Secret() (string, error) { return signingSecret("webhook.secret_file", w.SecretFile) }

// leastToken is the shortest token that is taken, in bytes: a shorter one is guessed.
const leastToken = 16

func tokenIn(key, path string) (string, error) {
	token, err := secretIn(key, path)
	if err == nil && path != "" && len(token) < leastToken {
		return "", fmt.Errorf("%s %s holds %d characters, which can be guessed: write at least %d into it, like those of openssl rand -hex 32", key, path, len(token), leastToken)
	}
	return token, err
}

// signingSecret reads the secret of a Standard Webhook.
func signingSecret(key, path string) (string, error) {
	secret, err := secretIn(key, path)
	if err != nil || secret == "" {
		return "", err
	}
	if _, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")); err != nil {
		return "", fmt.Errorf("%s %s holds no secret of Standard Webhooks, base64 with or without whsec_ before it: "+
			"take the other side's, or make one for both: echo whsec_$(openssl rand -base64 32)", key, path) // the cause would show some of it
	}
	return secret, nil
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
