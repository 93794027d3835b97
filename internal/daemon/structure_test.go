package daemon_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/assetd/assetd/"

// table is section 4 of the design: what each package may import of ours. All may
// import run, signedurl, clock and durable besides, but for these four themselves.
var table = map[string][]string{
	"internal/run":           nil,
	"internal/signedurl":     nil,
	"internal/clock":         nil,
	"internal/durable":       nil,
	"internal/dropfile":      {},
	"internal/inbox":         {"internal/dropfile"},
	"internal/queue":         {"internal/queue/answers"},
	"internal/queue/answers": {},
	"internal/magnific":      {},
	"internal/poller":        {},
	"internal/plan":          {},
	"internal/transfer":      {},
	"internal/download":      {"internal/plan", "internal/transfer"},
	"internal/storage":       {},
	"internal/manifest":      {},
	"internal/leash":         {},
	"internal/undumpable":    {},
	"internal/notify":        {"internal/leash"},
	"internal/server":        {"internal/dropfile"},
	"internal/config":        {},
	"internal/signals":       {},
	"internal/pyjson":        nil,
	"internal/simulator":     {},
	"internal/bench":         {"internal/simulator"},

	"deploy/test/upstream": {"internal/simulator"},

	// What the daemon is made of. internal/daemon itself may import everything.
	"internal/daemon/logging": {"internal/inbox", "internal/notify", "internal/storage"},
}

// shared may be imported by all but each other.
var shared = []string{"internal/run", "internal/signedurl", "internal/clock", "internal/durable", "internal/pyjson"}

// behind says which of our packages may touch a third-party one (by prefix), so
// that each that matters is behind one of ours.
var behind = map[string][]string{
	"go.etcd.io/bbolt":              {"internal/queue"},
	"github.com/go-co-op/gocron":    {"internal/daemon"},
	"github.com/fsnotify/fsnotify":  {"internal/inbox"},
	"github.com/coreos/go-systemd":  {"internal/daemon"},
	"github.com/knadh/koanf":        {"internal/config"},
	"github.com/goccy/go-yaml":      {"internal/config"},
	"go.yaml.in/yaml":               {"internal/config"},
	"github.com/prometheus":         {"internal/server"},
	"github.com/gabriel-vasile":     {"internal/transfer"},
	"github.com/klauspost/compress": {"internal/transfer", "internal/simulator"},
	"github.com/andybalholm/brotli": {"internal/transfer", "internal/simulator"},
	"github.com/standard-webhooks":  {"internal/notify"},
	"go.uber.org/zap":               {"internal/daemon", "internal/daemon/logging", "cmd/assetd"},
	"github.com/spf13/cobra":        {"cmd/assetd"},
	"github.com/vbauerster/mpb":     {"cmd/assetd"},
}

type source struct {
	path, pkg string // slashes, relative to the module
	file      *ast.File
	fset      *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func sources(t *testing.T) []source {
	t.Helper()
	root := "../.."
	var found []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		found = append(found, source{rel, rel[:strings.LastIndex(rel, "/")], file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 20 {
		t.Fatalf("only %d Go files found: is the test run in its package?", len(found))
	}
	return found
}

func imports(f *ast.File) []string {
	var paths []string
	for _, spec := range f.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

func TestImportsFollowTheTableOfTheDesign(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		allowed, listed := table[s.pkg]
		all := s.pkg == "internal/daemon" || strings.HasPrefix(s.pkg, "cmd/")
		if !listed && !all {
			t.Errorf("%s: package %s is not in the design's table", s.path, s.pkg)
			continue
		}
		for _, path := range imports(s.file) {
			ours, ok := strings.CutPrefix(path, module)
			switch {
			case !ok || all:
			case allowed != nil && slices.Contains(shared, ours):
			case !slices.Contains(allowed, ours):
				t.Errorf("%s imports %s, which the design's table does not allow", s.path, ours)
			}
		}
	}
}

func TestThirdPartyPackagesStandBehindOneOfOurs(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		for _, path := range imports(s.file) {
			for prefix, allowed := range behind {
				if strings.HasPrefix(path, prefix) && !slices.Contains(allowed, s.pkg) {
					t.Errorf("%s imports %s, which only %v may", s.path, path, allowed)
				}
			}
		}
	}
}

// A sleep in real time is either too short on a busy machine or too long on every other
// one: it is in a synctest bubble, or in a function that is called in bubbles alone, or
// its line says "real time:" and why. Methods of fakes are not followed: who calls them
// is not seen here.
func TestTestsDoNotSleepInRealTime(t *testing.T) {
	packages := map[string][]source{}
	for _, s := range sources(t) {
		if s.isTest() {
			packages[s.pkg] = append(packages[s.pkg], s)
		}
	}
	sleeps := 0
	for _, tests := range packages {
		real := outsideBubbles(tests)
		for _, s := range tests {
			bubbles := bubblesOf(s, tests)
			eachCall(s.file, func(in string, call *ast.CallExpr) {
				if !isCallOf(call, "time", "Sleep") {
					return
				}
				sleeps++
				if real[in] && !bubbles.hold(call.Pos()) && !s.says(call.Pos(), "real time: ") {
					t.Errorf("%s: time.Sleep in real time", s.fset.Position(call.Pos()))
				}
			})
		}
	}
	if sleeps < 50 {
		t.Errorf("only %d sleeps found: does this test still see them?", sleeps)
	}
}

// spans are ranges of a file.
type spans [][2]token.Pos

func (s spans) hold(pos token.Pos) bool {
	return slices.ContainsFunc(s, func(r [2]token.Pos) bool { return r[0] <= pos && pos < r[1] })
}

// bubblesOf are the functions of a file that are run in a bubble: those given to
// synctest.Test, or to a function of the package that gives its own to it.
func bubblesOf(s source, tests []source) (found spans) {
	runners := map[string]bool{}
	for _, other := range tests {
		eachCall(other.file, func(in string, call *ast.CallExpr) {
			if isCallOf(call, "synctest", "Test") && !isTestName(in) {
				runners[in] = true
			}
		})
	}
	eachCall(s.file, func(_ string, call *ast.CallExpr) {
		if !isCallOf(call, "synctest", "Test") && !runners[calledName(call)] {
			return
		}
		for _, arg := range call.Args {
			found = append(found, [2]token.Pos{arg.Pos(), arg.End()})
		}
	})
	return found
}

// outsideBubbles are the functions of a package's tests, by name, that run in real time:
// the tests themselves, and what is named outside of bubbles in one that does.
func outsideBubbles(tests []source) map[string]bool {
	named := map[string][]string{} // by a function, outside of its bubbles
	real := map[string]bool{}
	for _, s := range tests {
		bubbles := bubblesOf(s, tests)
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			real[f.Name.Name] = real[f.Name.Name] || isTestName(f.Name.Name)
			var look func(ast.Node) bool
			look = func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok { // a field, or another package's
					ast.Inspect(sel.X, look)
					return false
				}
				id, ok := n.(*ast.Ident)
				local := ok && id.Obj != nil && id.Obj.Kind == ast.Var
				if ok && !local && id != f.Name && !bubbles.hold(id.Pos()) {
					named[f.Name.Name] = append(named[f.Name.Name], id.Name)
				}
				return true
			}
			ast.Inspect(f, look)
		}
	}
	for grew := true; grew; {
		grew = false
		for by, names := range named {
			for _, name := range names {
				if known, ok := real[name]; ok && real[by] && !known {
					real[name], grew = true, true
				}
			}
		}
	}
	return real
}

// says reports whether a comment in the line of pos begins with words.
func (s source) says(pos token.Pos, words string) bool {
	line := s.fset.Position(pos).Line
	return slices.ContainsFunc(s.file.Comments, func(c *ast.CommentGroup) bool {
		return s.fset.Position(c.Pos()).Line == line && strings.HasPrefix(c.Text(), words)
	})
}

func isTestName(name string) bool {
	for _, prefix := range []string{"Test", "Fuzz", "Benchmark", "Example"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// eachCall calls f with every call in a file, and the name of the function it is in.
func eachCall(file *ast.File, f func(in string, call *ast.CallExpr)) {
	for _, decl := range file.Decls {
		in := ""
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
			in = fn.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				f(in, call)
			}
			return true
		})
	}
}

func calledName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

func isCallOf(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}

func TestEveryPackageSaysWhatItGuarantees(t *testing.T) {
	docs := map[string]bool{}
	for _, s := range sources(t) {
		if !s.isTest() {
			docs[s.pkg] = docs[s.pkg] || s.file.Doc != nil && len(s.file.Doc.Text()) > 80
		}
	}
	for pkg, ok := range docs {
		if !ok {
			t.Errorf("%s has no package comment worth the name", pkg)
		}
	}
}

// Directories are made by durable.MkdirAll, so that they survive power loss, or by a
// package that syncs their parents itself: inbox (modes for a group), storage (batches).
func TestCase_A24_DirectoriesAreMadeByDurableOnly(t *testing.T) {
	exempt := []string{"internal/durable", "internal/storage", "internal/bench"}
	for _, s := range sources(t) {
		if s.isTest() || slices.Contains(exempt, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "os" && (call.Sel.Name == "Mkdir" || call.Sel.Name == "MkdirAll") {
				t.Errorf("%s: os.%s does not sync the parent: use durable.MkdirAll", s.fset.Position(n.Pos()), call.Sel.Name)
			}
			return true
		})
	}
}
