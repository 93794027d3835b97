package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// SystemFile is where a machine's configuration stands.
const SystemFile = "/etc/assetd/assetd.yaml"

// fileVariable is the environment variable that names the configuration file.
const fileVariable = "ASSETD_CONFIG"

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// places are where a file is looked for, the first that exists is taken. Where
// one was named, it must exist.
func places(named string, env environment) (paths []string, must bool) {
	if named == "" {
		named = env[fileVariable]
	}
	if named != "" {
		return []string{named}, true
	}
	paths = []string{SystemFile}
	if dir := env.xdg("XDG_CONFIG_HOME", ".config"); dir != "" {
		paths = append(paths, filepath.Join(dir, "assetd", "assetd.yaml"))
	}
	return paths, false
}

// readFirst reads the first file that is there into the loader, and gives its path.
// Of the usual places one that cannot be reached at all is passed over with a
// warning: a HOME can be another user's. The machine's, which comes first, is not,
// nor is a file that is there and cannot be read: its settings are meant for
// whoever asks.
func (l *loader) readFirst(paths []string, must bool, uid int) (path string, data []byte) {
	for i, path := range paths {
		machines := i == 0 && !must
		data, err := readFile(path)
		switch {
		case err == nil && len(data) > maxFile:
			l.problem(Problem{Where: path, What: "is larger than 1 MiB", Mend: "is this the right file?"})
			return path, nil
		case err == nil:
			return path, data
		case !must && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)):
			continue
		case !must && !machines && hidden(path, err):
			l.warnings = append(l.warnings, Warning{
				Key: path, Text: fmt.Sprintf("cannot be looked for and is passed over: %s for user %d; is HOME another user's?", reason(err), uid),
			})
			continue
		}
		l.problem(unreadable(path, machines, err, uid))
		return path, nil
	}
	return "", nil
}

// hidden reports whether a directory above the path keeps us from even knowing
// whether a file is there.
func hidden(path string, err error) bool {
	_, statErr := os.Stat(path)
	return errors.Is(err, fs.ErrPermission) && errors.Is(statErr, fs.ErrPermission)
}

func unreadable(path string, machines bool, err error, uid int) Problem {
	mend := fmt.Sprintf("the configuration must be a file that user %d can read", uid)
	if machines && errors.Is(err, fs.ErrPermission) {
		mend = fmt.Sprintf("use sudo, or add user %d to the file's group (assetd), or name another file with --config", uid)
	}
	return Problem{Where: path, What: reason(err), Mend: mend}
}

// readFile reads a little more than maxFile at most.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// reason is a file error without the path, which stands elsewhere.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// fileLayer is what a YAML file sets. Only its syntax tree is used, never the
// library's own decoding: that would guess types and lose lines.
func (l *loader) fileLayer(path string, data []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.syntax(path, data, err)
		}
		return
	}
	root := follow(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		if root.ShortTag() != tagNull {
			l.problem(Problem{Where: at(path, root), What: "the file is not made of keys and values", Mend: "begin with a key, like data_dir: /srv/assetd"})
		}
	} else {
		l.section(path, "", root)
	}
	switch err := dec.Decode(&doc); {
	case err == nil:
		l.problem(Problem{Where: at(path, &doc), What: "a second document begins", Mend: "remove the line ---"})
	case !errors.Is(err, io.EOF):
		l.syntax(path, data, err)
	}
}

// section reads the keys of a mapping. prefix is the section's name with its dot.
func (l *loader) section(path, prefix string, node *yaml.Node) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		nameNode, valueNode := node.Content[i], follow(node.Content[i+1])
		name, where := prefix+brief(nameNode.Value, 80), at(path, nameNode)
		if first, ok := seen[name]; ok {
			l.problem(Problem{Where: where, Key: name, What: fmt.Sprintf("stands there twice, first in line %d", first), Mend: "remove one"})
			continue
		}
		seen[name] = nameNode.Line
		k, known := l.keys[name]
		switch {
		case nameNode.Kind != yaml.ScalarNode:
			l.problem(Problem{Where: where, What: "a key is not a plain word", Mend: "write key: value"})
		case prefix == "" && l.sections[name]:
			l.enter(path, name, where, valueNode)
		case known && strings.Contains(nameNode.Value, "."):
			section, last := cutLast(name)
			l.problem(Problem{Where: where, Key: name, What: "is a key of a section", Mend: fmt.Sprintf("write %s: indented below %s:", last, section)})
		case !known:
			l.unknown(where, name, scalar(valueNode))
		case valueNode.Kind == yaml.MappingNode && valueNode.Style&yaml.FlowStyle != 0:
			l.problem(Problem{Where: where, Key: name, What: "is read as keys and values, since it begins with {", Mend: "put the value in quotes"})
		case valueNode.Kind == yaml.MappingNode:
			l.problem(Problem{Where: where, Key: name, What: "has keys below it", Mend: "write one value"})
		default:
			l.set(k, nodeValue(valueNode), where)
		}
	}
}

// enter goes into a section. One without keys is one whose keys are commented out.
func (l *loader) enter(path, name, where string, node *yaml.Node) {
	switch {
	case node.Kind == yaml.MappingNode:
		l.section(path, name+".", node)
	case node.Kind != yaml.ScalarNode || node.ShortTag() != tagNull:
		l.problem(Problem{Where: where, Key: name, Value: strange(name, scalar(node)), What: "is a section", Mend: "write its keys below it, indented"})
	}
}

// follow is the node that an alias stands for. Only values and sections are ever
// followed, two deep, so an alias to itself or a bomb of them does no harm.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func nodeValue(node *yaml.Node) value {
	v := scalar(node)
	if v.list {
		for _, item := range node.Content {
			item = follow(item)
			v.items = append(v.items, scalar(item))
		}
	}
	return v
}

func scalar(node *yaml.Node) value {
	v := value{text: node.Value, tag: node.ShortTag(), list: node.Kind == yaml.SequenceNode}
	if v.tag == tagTime && node.Style&yaml.TaggedStyle == 0 {
		v.tag = tagText // 2026-01-31 is a date to YAML alone
	}
	return v
}

func at(path string, node *yaml.Node) string { return path + ":" + strconv.Itoa(node.Line) }
