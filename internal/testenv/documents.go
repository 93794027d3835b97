package testenv

import (
	"io/fs"
	"os"
	"path"
	"testing"
)

// Documents returns the text of the project's pages by their paths below root, the
// directory of go.mod.
func Documents(t testing.TB, root string) map[string]string {
	t.Helper()
	found, tree := map[string]string{}, os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		found[name] = string(text)
		return err
	})
	if err != nil || len(found) < 7 {
		t.Fatalf("%d documents below %s: %v", len(found), root, err)
	}
	return found
}
