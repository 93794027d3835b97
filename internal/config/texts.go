package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// dirPath is a directory; empty stands for the default. Relative paths count
// from the working directory.
func dirPath() kind {
	return kind{tags: tagText, parse: absolute}
}

func absolute(text string) (any, error) {
	switch {
	case text == "":
		return "", nil
	case strings.ContainsFunc(text, unicode.IsControl):
		return nil, fault{"is not a path", "remove the line break, or whatever control character it holds"}
	case text == "~", strings.HasPrefix(text, "~/"):
		return nil, fault{"begins with ~", "write the whole path: only a shell knows what ~ is"}
	case strings.HasPrefix(text, "$"):
		return nil, fault{"begins with $", "write the whole path: only a shell knows variables"}
	}
	abs, err := filepath.Abs(text)
	if err != nil {
		return nil, fault{"is relative, and there is no working directory", "write the whole path"}
	}
	return abs, nil
}

// secretFile is the path of a file that holds a secret. It must look like a path:
// the secret itself, put here by mistake, would be printed as one.
func secretFile() kind {
	return kind{
		tags: tagText,
		hide: func(text string) string {
			if strings.Contains(text, "/") {
				return text
			}
			return notShown
		},
		parse: func(text string) (any, error) {
			if text != "" && !strings.Contains(text, "/") {
				return nil, fault{"is not a path, and may be the secret itself", "write the path of the file that holds it, like ./api-key"}
			}
			return absolute(text)
		},
	}
}

// command is a program; empty: none.
func command() kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		if strings.ContainsRune(text, 0) {
			return nil, fault{"is not a command", "remove the NUL byte"}
		}
		_, err := words(text)
		return text, err
	}}
}

// choice is one of these words.
func choice(words ...string) kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		if !slices.Contains(words, text) {
			return nil, fault{"is not one of the choices", "write " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]}
		}
		return text, nil
	}}
}

// baseURL is https, or http to this machine, without a query.
func baseURL() kind {
	const mend = "write it like https://api.magnific.com"
	return kind{tags: tagText, hide: hideURL, parse: func(text string) (any, error) {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
			return nil, fault{"is not an https URL with a host", mend}
		case u.Scheme == "http" && !loopback(u.Hostname()):
			return nil, fault{"would send the API key in the clear", "write https; http is for this machine's own addresses"}
		case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return nil, fault{"holds more than scheme, host and path", mend}
		}
		return text, nil
	}}
}

// autoPath has the path used that answers.
const autoPath = "auto"

// runsPath is the path of a URL, or autoPath.
func runsPath() kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		if strings.EqualFold(text, autoPath) {
			return autoPath, nil
		}
		u, err := url.Parse(text)
		if err != nil || !strings.HasPrefix(text, "/") || u.Path != text || u.Host != "" || slices.Contains(strings.Split(text, "/"), "..") {
			return nil, fault{"is not a plain path", "write auto, /v1/ai/apps/runs or /v1/ai/flows/runs"}
		}
		return text, nil
	}}
}

// proxyURL is an HTTP or SOCKS5 proxy; empty: none.
func proxyURL() kind {
	const mend = "write it like http://proxy.example:3128 or socks5://proxy.example:1080"
	return kind{tags: tagText, hide: hideURL, parse: func(text string) (any, error) {
		if text == "" {
			return "", nil
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
			return nil, fault{"is not the URL of a proxy", mend}
		}
		return text, nil
	}}
}

// hookURL is where hooks are posted to; empty: nowhere.
func hookURL() kind {
	return kind{tags: tagText, hide: hideHook, parse: func(text string) (any, error) {
		if text == "" {
			return "", nil
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fault{"is not a URL", "write it like https://hooks.example/assetd"}
		}
		return text, nil
	}}
}

// listen is host:port; empty: nothing.
func listen() kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		if text == "" {
			return "", nil
		}
		const mend = "write host:port, like 127.0.0.1:7433"
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return nil, fault{"is not an address to listen on", mend}
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || !isDigits(port) {
			return nil, fault{"has no port from 0 to 65535", mend}
		} else if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' }) {
			return nil, fault{fmt.Sprintf("has no host before port %d", n), mend}
		}
		return text, nil
	}}
}

// loopback reports whether a host is this machine, by its name or address alone.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// runDir is the template of a run's directory.
func runDir() kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		held, err := template(text, []string{"app_id", "run_id", "date"}, true)
		if err != nil {
			return nil, err
		}
		if first, _, _ := strings.Cut(text, "/"); strings.EqualFold(first, ".assetd") {
			return nil, fault{"begins with .assetd, which is the volume's own", "begin with another name"}
		}
		if !slices.Contains(held, "run_id") {
			return nil, fault{"lacks {run_id}", "put it in, so that no two runs share a directory"}
		}
		return text, nil
	}}
}

// fileName is the template of a file below its run's directory.
func fileName() kind {
	return kind{tags: tagText, parse: func(text string) (any, error) {
		held, err := template(text, []string{"kind", "asset_id", "ext", "index", "tool"}, false)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(held, "asset_id") && (!slices.Contains(held, "kind") || !slices.Contains(held, "index")) {
			return nil, fault{"lacks {asset_id}, or {kind} and {index}", "put them in, so that no two assets share a name"}
		}
		return text, nil
	}}
}

// template gives the placeholders that a relative path holds. Those of labels
// carry a name of their own.
func template(text string, known []string, labels bool) (held []string, err error) {
	switch {
	case text == "":
		return nil, fault{"is empty", "write a relative path like a/b, or remove the setting for the default"}
	case text[0] == '/':
		return nil, fault{"begins with /", "write a relative path like a/b: it begins in storage.dir, or in the run's directory"}
	}
	for elem := range strings.SplitSeq(text, "/") {
		if elem == "" {
			return nil, fault{"has an empty element", "write a relative path like a/b"}
		}
		if elem[0] == ' ' || elem[len(elem)-1] == ' ' || elem[len(elem)-1] == '.' {
			return nil, fault{fmt.Sprintf("has the element %q", elem), "no element may begin or end with a space, or end with a dot: not every file system holds that"}
		}
		for rest := elem; rest != ""; {
			literal, after, found := strings.Cut(rest, "{")
			if i := strings.IndexFunc(literal, notInNames); i >= 0 {
				return nil, fault{fmt.Sprintf("holds %q", []rune(literal[i:])[0]), "leave it out: not every file system can hold it in a name"}
			}
			if !found {
				break
			}
			name, after, closed := strings.Cut(after, "}")
			if !closed {
				return nil, fault{"has a { without its }", "close it, or leave it out"}
			}
			label, isLabel := strings.CutPrefix(name, "label.")
			if !slices.Contains(known, name) && (!labels || !isLabel || label == "") {
				return nil, fault{fmt.Sprintf("holds {%s}, which is not known here", name), "there are " + placeholders(known, labels)}
			}
			held, rest = append(held, name), after
		}
	}
	return held, nil
}

func placeholders(known []string, labels bool) string {
	text := "{" + strings.Join(known, "}, {") + "}"
	if labels {
		text += " and {label.NAME}"
	}
	return text
}

// notInNames are the characters that SMB and others cannot hold in a name.
func notInNames(r rune) bool {
	return r == unicode.ReplacementChar || unicode.IsControl(r) || strings.ContainsRune(`\:*?"<>|}`, r)
}

// maxUserAgent bounds a User-Agent, in bytes.
const maxUserAgent = 256

// userAgent is a User-Agent (RFC 9110, section 10.1.5); empty stands for the default.
func userAgent() kind {
	const mend = "write it like studio-fetch/1.0 (ops@example.com)"
	return kind{tags: tagText, parse: func(text string) (any, error) {
		switch {
		case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
			return nil, fault{"holds what no header field may hold", mend}
		case strings.TrimSpace(text) != text:
			return nil, fault{"begins or ends with a blank", mend}
		case len(text) > maxUserAgent:
			return nil, fault{fmt.Sprintf("is longer than %d bytes", maxUserAgent), mend}
		}
		return text, nil
	}}
}

// deriveAgent fills in the User-Agent that was not set: assetd/<version>, of which
// what cannot be in a product's version becomes a dash.
func (l *loader) deriveAgent(version string) {
	const key = "download.user_agent"
	if l.values[key] != "" || version == "" {
		return
	}
	l.current[key] = "assetd/" + strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r) {
			return '-'
		}
		return r
	}, version)
}
