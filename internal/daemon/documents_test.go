package daemon_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the project's pages: their text, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		text, err := fs.ReadFile(root, name)
		found[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var fenced = regexp.MustCompile("(?ms)^```.*?^```$")

// anchors are those that the headings of a page have where the project is hosted: lower
// case, without punctuation, with hyphens for spaces.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestStructure_EveryLinkOfADocumentResolves(t *testing.T) {
	pages := documents(t)
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

// The README is for somebody who has five minutes; all else has a page that it links to.
func TestStructure_TheREADMEIsShortAndLinksToEveryPage(t *testing.T) {
	pages := documents(t)
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
	page := documents(t)["internal/README.md"]
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
