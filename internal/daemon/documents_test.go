package daemon_test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/testenv"
)

var fenced = regexp.MustCompile("(?ms)^```.*?^```$")

// anchors returns the anchors that GitHub gives the headings of a page: in lower case,
// without punctuation, with hyphens for spaces.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestStructure_EveryLinkOfADocumentResolves(t *testing.T) {
	pages := testenv.Documents(t, "../..")
	links := 0
	for name, text := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(file))); err != nil {
				t.Errorf("%s links to %s: correct the link where the file has moved: %v", name, m[1], err)
			}
			if anchor != "" && !anchors(pages[file])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], file)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links found", links)
	}
}

// The README is for somebody who has five minutes; everything else has a page of its own.
func TestStructure_TheREADMEIsShortAndLinksToEveryPage(t *testing.T) {
	pages := testenv.Documents(t, "../..")
	readme := pages["README.md"]
	if n := strings.Count(readme, "\n"); n > 150 {
		t.Errorf("README.md has %d lines, and is to have 150 at most", n)
	}
	for name := range pages {
		if base := path.Base(name); base == "README.md" && name != base || name == "deploy/OPERATIONS.md" || name == ".github/CONTRIBUTING.md" {
			if !strings.Contains(readme, "("+name+")") {
				t.Errorf("README.md has no link to %s", name)
			}
		}
	}
}

func TestStructure_EveryPackageIsInTheArchitecturesTable(t *testing.T) {
	described := map[string]bool{}
	page := testenv.Documents(t, "../..")["internal/README.md"]
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:cmd|internal|deploy)/[a-z/]+)` \\| \\S").FindAllStringSubmatch(page, -1) {
		if described[m[1]] {
			t.Errorf("internal/README.md has two rows for %s", m[1])
		}
		described[m[1]] = true
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		there[s.pkg] = true
	}
	for pkg := range there {
		if !described[pkg] {
			t.Errorf("package %s has no row in the table of internal/README.md: add one that says its job", pkg)
		}
	}
	_, floor, _ := strings.Cut(page, "import the floor: ")
	floor, _, _ = strings.Cut(floor, ";")
	var named []string
	for _, m := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(floor, -1) {
		named = append(named, "internal/"+m[1])
	}
	if !slices.Equal(named, shared) {
		t.Errorf("internal/README.md says that all may import %v, the table %v", named, shared)
	}
	for pkg := range described {
		if !there[pkg] {
			t.Errorf("the table of internal/README.md has a row for %s, which is no package", pkg)
		}
	}
}

// texts returns all string literals outside tests, one per line.
func texts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					b.WriteString(text + "\n")
				}
			}
			return true
		})
	}
	return b.String()
}

// section returns the text under a heading of the second level.
func section(page, heading string) string {
	_, rest, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

func TestStructure_TheMessagesThatOPERATIONSExplainsExist(t *testing.T) {
	all := texts(t)
	messages := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \| `).FindAllStringSubmatch(section(testenv.Documents(t, "../..")["deploy/OPERATIONS.md"], "Messages"), -1) {
		for _, m := range regexp.MustCompile("`([^`/]+)`").FindAllStringSubmatch(row[1], -1) {
			if strings.HasPrefix(m[1], "assetd ") {
				continue
			}
			messages++
			if !strings.Contains(all, m[1]) {
				t.Errorf("OPERATIONS.md explains %q, which no code says: correct the page where the message has changed", m[1])
			}
		}
	}
	if messages < 10 {
		t.Errorf("only %d messages found", messages)
	}
}

func TestStructure_TheInterfacesPageNamesEveryEventOfHooks(t *testing.T) {
	exist := map[string]bool{}
	for _, s := range sources(t) {
		if s.pkg != "internal/run" || s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "NoticeKind" {
				name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				exist[name] = true
			}
			return true
		})
	}
	if len(exist) < 10 {
		t.Fatalf("only %d events found: has their type another name?", len(exist))
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \| `).FindAllStringSubmatch(section(testenv.Documents(t, "../..")["internal/server/README.md"], "Hooks"), -1) {
		for _, m := range regexp.MustCompile("`([a-z._]+)`").FindAllStringSubmatch(row[1], -1) {
			if !exist[m[1]] {
				t.Errorf("the page has an event %s, which there is not", m[1])
			}
			delete(exist, m[1])
		}
	}
	for name := range exist {
		t.Errorf("the page does not name the event %s", name)
	}
}
