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
// import run, signedurl, clock, durable and backoff besides, but for these five themselves.
var table = map[string][]string{
	"internal/run":             nil,
	"internal/signedurl":       nil,
	"internal/clock":           nil,
	"internal/durable":         nil,
	"internal/backoff":         nil,
	"internal/dropfile":        {},
	"internal/inbox":           {"internal/dropfile"},
	"internal/queue":           {"internal/queue/answers", "internal/queue/boltkv", "internal/queue/kv"},
	"internal/queue/answers":   {},
	"internal/queue/boltkv":    {"internal/queue/kv"},
	"internal/queue/kv":        {},
	"internal/queue/memkv":     {"internal/queue/kv"},
	"internal/queue/queuetest": {"internal/queue", "internal/queue/answers", "internal/queue/kv"},
	"internal/magnific":        {},
	"internal/poller":          {},
	"internal/manifest":        {},
	"internal/leash":           {},
	"internal/undumpable":      {},
	"internal/notify":          {"internal/leash"},
	"internal/server":          {"internal/dropfile"},
	"internal/config":          {},
	"internal/signals":         {},
	"internal/pyjson":          nil,
	"internal/simulator":       {},
	"internal/bench":           {"internal/simulator"},
	"internal/testenv":         {},

	"internal/download":         {"internal/download/backlog", "internal/download/triage", "internal/transfer", "internal/transfer/media"},
	"internal/download/backlog": {"internal/download/heap"},
	"internal/download/triage":  {"internal/download/heap"},
	"internal/download/heap":    {},
	"internal/transfer":         {"internal/transfer/media", "internal/transfer/ranges"},
	"internal/transfer/media":   {},
	"internal/transfer/ranges":  {},
	"internal/storage":          {},

	"deploy/test/upstream": {"internal/simulator"},

	// What the daemon is made of. internal/daemon itself may import everything.
	"internal/daemon/admin": {
		"internal/config", "internal/daemon/verify", "internal/manifest", "internal/pipeline", "internal/queue", "internal/queue/boltkv", "internal/server",
		"internal/storage",
	},
	"internal/daemon/doctor": {
		"internal/config", "internal/magnific", "internal/pipeline", "internal/queue", "internal/queue/boltkv", "internal/server", "internal/storage",
		"internal/transfer",
	},
	"internal/daemon/logging": {"internal/inbox", "internal/notify", "internal/storage"},
	"internal/daemon/maintenance": {
		"internal/config", "internal/daemon/logging", "internal/inbox", "internal/pipeline", "internal/queue", "internal/queue/boltkv", "internal/queue/kv", "internal/storage",
	},
	"internal/daemon/verify": {"internal/manifest", "internal/server", "internal/storage"},
	"internal/get": {
		"internal/config", "internal/daemon/admin", "internal/download", "internal/health", "internal/pipeline", "internal/queue", "internal/queue/boltkv",
		"internal/schedule",
	},
	"internal/health":   {"internal/server", "internal/storage", "internal/transfer"},
	"internal/schedule": {},
	"internal/pipeline": {
		"internal/config", "internal/download", "internal/magnific", "internal/manifest", "internal/poller",
		"internal/queue", "internal/queue/kv",
		"internal/schedule", "internal/server", "internal/storage", "internal/transfer",
	},
}

// shared may be imported by all but each other.
var shared = []string{"internal/run", "internal/signedurl", "internal/clock", "internal/durable", "internal/backoff", "internal/pyjson"}

// behind says which of our packages may touch a third-party one (by prefix), so
// that each that matters is behind one of ours.
var behind = map[string][]string{
	"go.etcd.io/bbolt":              {"internal/queue/boltkv"},
	"github.com/go-co-op/gocron":    {"internal/schedule"},
	"github.com/fsnotify/fsnotify":  {"internal/inbox"},
	"github.com/coreos/go-systemd":  {"internal/daemon"},
	"go.yaml.in/yaml":               {"internal/config"},
	"github.com/prometheus":         {"internal/server"},
	"github.com/gabriel-vasile":     {"internal/transfer/media"},
	"github.com/klauspost/compress": {"internal/transfer/media", "internal/simulator"},
	"github.com/andybalholm/brotli": {"internal/transfer/media", "internal/simulator"},
	"github.com/standard-webhooks":  {"internal/notify"},
	"go.uber.org/zap":               {"internal/daemon", "internal/daemon/logging", "internal/daemon/maintenance", "internal/get", "internal/pipeline", "internal/schedule", "cmd/assetd"},
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
	exists := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		exists[s.pkg] = true
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
	for pkg := range table {
		if !exists[pkg] {
			t.Errorf("there is no package %s: remove its line", pkg)
		}
	}
}

// The rules of the queue know the seam to its engines, and one file which engine it is.
func TestQueue_OneFileKnowsItsEngine(t *testing.T) {
	const where, engine = "internal/queue/file.go", module + "internal/queue/boltkv"
	known := false
	for _, s := range sources(t) {
		if s.pkg != "internal/queue" || s.isTest() || !slices.Contains(imports(s.file), engine) {
			continue
		}
		if known = true; s.path != where {
			t.Errorf("%s imports %s: only %s may", s.path, engine, where)
		}
	}
	if !known {
		t.Errorf("no file imports %s", engine)
	}
}

func TestThirdPartyPackagesStandBehindOneOfOurs(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		for _, path := range imports(s.file) {
			for prefix, allowed := range behind {
				if !strings.HasPrefix(path, prefix) {
					continue
				}
				used[prefix] = true
				if !slices.Contains(allowed, s.pkg) {
					t.Errorf("%s imports %s, which only %v may", s.path, path, allowed)
				}
			}
		}
	}
	for prefix := range behind {
		if !used[prefix] {
			t.Errorf("nothing imports %s: remove its line", prefix)
		}
	}
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

// What must survive power loss goes through internal/durable, the only package that makes
// these calls. storage makes directories itself as well: in batches, through os.Root.
func TestCase_A24_DurableCallsAreMadeInOnePackage(t *testing.T) {
	instead := map[string]string{
		"os.Mkdir":       "durable.MkdirAll, which syncs the parent",
		"os.MkdirAll":    "durable.MkdirAll, which syncs the parents",
		"unix.Renameat":  "durable.Rename",
		"unix.Renameat2": "durable.RenameNoReplace",
		"unix.EINTR":     "durable.Uninterrupted",
	}
	for _, s := range sources(t) {
		if s.isTest() || s.pkg == "internal/durable" || s.pkg == "internal/bench" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := call.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := pkg.Name + "." + call.Sel.Name
			if better, ok := instead[name]; ok && (name != "os.Mkdir" || s.pkg != "internal/storage") {
				t.Errorf("%s: %s: use %s", s.fset.Position(n.Pos()), name, better)
			}
			return true
		})
	}
}
