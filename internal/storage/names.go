package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/assetd/assetd/internal/run"
)

// names are the templates storage.run_dir and storage.file_name.
type names struct{ runDir, fileName template }

// template is a relative path with placeholders: elements of tokens.
type template [][]token

// token is literal text, or a placeholder by its name.
type token struct {
	text  string
	field bool
}

const labelField = "label."

// ValidateNames tells whether storage.run_dir and storage.file_name can be used.
// The error names key, value and hint.
func ValidateNames(runDir, fileName string) error {
	_, err := parseNames(runDir, fileName)
	return err
}

func parseNames(runDir, fileName string) (n names, err error) {
	dirFields := []string{"app_id", "run_id", "date"}
	if n.runDir, err = parseTemplate("storage.run_dir", runDir, dirFields, true); err != nil {
		return n, err
	}
	if !n.runDir.holds("run_id") {
		return n, fmt.Errorf("storage.run_dir %q must hold {run_id}, so that no two runs share a directory", runDir)
	}
	if first := n.runDir[0]; len(first) == 1 && strings.EqualFold(first[0].text, metaDir) {
		return n, fmt.Errorf("storage.run_dir %q must not begin with %s, which is the volume's own", runDir, metaDir)
	}
	fileFields := []string{"kind", "asset_id", "ext", "index", "tool"}
	if n.fileName, err = parseTemplate("storage.file_name", fileName, fileFields, false); err != nil {
		return n, err
	}
	if !n.fileName.holds("asset_id") && (!n.fileName.holds("kind") || !n.fileName.holds("index")) {
		return n, fmt.Errorf("storage.file_name %q must hold {asset_id}, or {kind} and {index}, so that no two assets share a name", fileName)
	}
	return n, nil
}

func parseTemplate(key, text string, fields []string, labels bool) (template, error) {
	bad := func(format string, args ...any) (template, error) {
		return nil, fmt.Errorf("%s %q: %s", key, text, fmt.Sprintf(format, args...))
	}
	var t template
	for elem := range strings.SplitSeq(text, "/") {
		if elem == "" {
			return bad("an element is empty: it is a relative path like a/b")
		}
		if elem[0] == ' ' || strings.HasSuffix(elem, " ") || strings.HasSuffix(elem, ".") {
			return bad("the element %q begins or ends with a space, or ends with a dot: not every file system can hold that", elem)
		}
		var tokens []token
		for rest := elem; rest != ""; {
			literal, after, found := strings.Cut(rest, "{")
			if i := strings.IndexFunc(literal, forbidden); i >= 0 {
				return bad("%q cannot stand in a name", literal[i:i+1])
			}
			if literal != "" {
				tokens = append(tokens, token{text: literal})
			}
			if !found {
				break
			}
			name, after, closed := strings.Cut(after, "}")
			label := labels && strings.HasPrefix(name, labelField) && len(name) > len(labelField)
			switch {
			case !closed:
				return bad("a { without its }")
			case !label && !slices.Contains(fields, name):
				return bad("{%s} is not known here; there are {%s}%s", name, strings.Join(fields, "}, {"), orLabels(labels))
			}
			tokens = append(tokens, token{text: name, field: true})
			rest = after
		}
		t = append(t, tokens)
	}
	return t, nil
}

func orLabels(labels bool) string {
	if labels {
		return " and {label.NAME}"
	}
	return ""
}

// forbidden are the characters that SMB and others cannot hold.
func forbidden(r rune) bool {
	return r == unicode.ReplacementChar || unicode.IsControl(r) || strings.ContainsRune(`\:*?"<>|}`, r)
}

func (t template) holds(name string) bool {
	return slices.ContainsFunc(t, func(elem []token) bool { return slices.Contains(elem, token{name, true}) })
}

// render is the path's elements, each placeholder a safe value.
func (t template) render(value func(name string) string) []string {
	elems := make([]string, len(t))
	for i, tokens := range t {
		var b strings.Builder
		for _, tok := range tokens {
			if tok.field {
				b.WriteString(value(tok.text))
			} else {
				b.WriteString(tok.text)
			}
		}
		elems[i] = b.String()
	}
	return elems
}

// DirFor is the directory that the template wants for a run, below storage.dir,
// with slashes. Whether it is free is for the queue to say.
func (v *Volume) DirFor(r run.Run) string { return v.names.dirFor(r) }

func (n names) dirFor(r run.Run) string {
	elems := n.runDir.render(func(name string) string {
		switch name {
		case "app_id":
			return safe(r.App)
		case "run_id":
			return safe(string(r.ID))
		case "date":
			if r.HandedIn.IsZero() {
				return safe("")
			}
			return r.HandedIn.UTC().Format("2006-01-02")
		default:
			return safe(r.Labels[strings.TrimPrefix(name, labelField)])
		}
	})
	for i, elem := range elems {
		elems[i] = element(elem, "", i == 0 && strings.EqualFold(elem, metaDir))
	}
	return strings.Join(elems, "/")
}

// fileFor is the try-th name for an asset below its run's directory: the one the
// template wants, then with a suffix from the SHA-256 of the asset's id, then
// with -2, -3 and so on behind that. ext is the extension with its dot.
func (n names) fileFor(a run.Asset, ext string, try int) string {
	ext = safeExt(ext)
	elems := n.fileName.render(func(name string) string {
		switch name {
		case "kind":
			return safe(string(a.Key.Kind))
		case "asset_id":
			return safe(a.Key.ID)
		case "ext":
			return ext
		case "index":
			if a.Index <= 0 {
				return safe("")
			}
			return fmt.Sprintf("%03d", a.Index)
		default:
			return safe(a.Tool)
		}
	})
	last := len(elems) - 1
	if try > 0 {
		suffix := "-" + shortSum(a.Key.ID)
		if try > 1 {
			suffix += fmt.Sprintf("-%d", try)
		}
		elems[last] = insert(elems[last], ext, suffix)
	}
	for i, elem := range elems {
		tail := ""
		if i == last {
			tail = ext
		}
		elems[i] = element(elem, tail, i == 0 && isRecord(elem))
	}
	return strings.Join(elems, "/")
}

// isRecord reports whether a name in a run's directory is that of its records or
// of one being written: no media file and no directory of theirs may have it.
func isRecord(name string) bool {
	name = strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(name), "."), tempExt)
	return name == "manifest.json" || name == "sha256sums"
}

// The longest value and the longest element, in bytes. File systems hold 255,
// some of those that encrypt 143.
const (
	longestValue = 64
	longestElem  = 140
)

// safe is a value as it is in a name: unchanged where it is up to 64 of A-Z
// a-z 0-9 _ - and no reserved device name; else with everything other replaced
// and a suffix from its SHA-256, so that different values stay different. An
// empty value reads `unknown`.
func safe(value string) string {
	if value == "" {
		return "unknown"
	}
	var b strings.Builder
	changed := len(value) > longestValue || isDevice(value)
	gap := false
	for _, r := range value {
		plain := r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		switch {
		case plain:
			b.WriteRune(r)
		case !gap:
			b.WriteByte('_')
		}
		gap = !plain
		changed = changed || !plain
	}
	if !changed {
		return value
	}
	short := b.String()
	return short[:min(len(short), longestValue-9)] + "-" + shortSum(value)
}

// element is an element as it is on disk: one that is reserved, a device's
// name or too long gets a suffix from its SHA-256 before its tail.
func element(elem, tail string, reserved bool) string {
	if !reserved && len(elem) <= longestElem && !isDevice(elem) {
		return elem
	}
	stem := strings.TrimSuffix(elem, tail)
	return strings.ToValidUTF8(stem[:min(len(stem), longestElem-9-len(tail))], "") + "-" + shortSum(elem) + tail
}

// insert puts a suffix before the element's extension.
func insert(elem, ext, suffix string) string {
	if ext == "" || !strings.HasSuffix(elem, ext) {
		return elem + suffix
	}
	return strings.TrimSuffix(elem, ext) + suffix + ext
}

// safeExt is an extension of up to 15 letters and digits with its dot, or none.
func safeExt(ext string) string {
	if len(ext) < 2 || len(ext) > 16 || ext[0] != '.' {
		return ""
	}
	for _, c := range ext[1:] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return ext
}

// isDevice reports whether Windows and SMB take the name for a device, with any
// extension.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch stem = strings.TrimRight(stem, " "); stem {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) && '0' <= stem[3] && stem[3] <= '9'
}

func shortSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
