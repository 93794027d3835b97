package storage

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

func parse(t testing.TB, runDir, fileName string) names {
	t.Helper()
	n, err := parseNames(runDir, fileName)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGoodIDsStandInNamesUnchanged(t *testing.T) {
	n := parse(t, "{app_id}/{run_id}", "{kind}/{asset_id}{ext}")
	r := run.Run{ID: "omps2OH829", App: "uqzQLDr2Aw"}
	if got := n.dirFor(r); got != "uqzQLDr2Aw/omps2OH829" {
		t.Errorf("dir %q", got)
	}
	for _, id := range []string{"abc123", "A", "a", "-", "__", strings.Repeat("x", 64), "CONSOLE", "COM10"} {
		a := run.Asset{Key: run.Key{Run: r.ID, Kind: run.Images, ID: id}}
		if got := n.fileFor(a, ".png", 0); got != "images/"+id+".png" {
			t.Errorf("id %q: %q", id, got)
		}
	}
}

func TestEveryPlaceholderIsFilled(t *testing.T) {
	n := parse(t, "{date}/{label.Project}-{label.no}/{app_id}/{run_id}", "{kind}/{index}-{tool}{ext}")
	r := run.Run{
		ID: "run1", HandedIn: time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("", 3600)),
		Labels: map[string]string{"Project": "Moon_1"},
	}
	if got, want := n.dirFor(r), "2026-02-28/Moon_1-unknown/unknown/run1"; got != want {
		t.Errorf("dir %q, want %q", got, want)
	}
	a := run.Asset{Key: run.Key{Kind: run.Videos, ID: "v"}, Index: 7, Tool: "upscale"}
	if got := n.fileFor(a, ".mp4", 0); got != "videos/007-upscale.mp4" {
		t.Errorf("file %q", got)
	}
	a.Index = 0
	if got := n.fileFor(a, ".mp4", 1); got != "videos/unknown-upscale-"+shortSum("v")+".mp4" {
		t.Errorf("file without an index, second try: %q", got)
	}
	if got := n.fileFor(a, ".mp4", 3); got != "videos/unknown-upscale-"+shortSum("v")+"-3.mp4" {
		t.Errorf("fourth try: %q", got)
	}
}

// hostile are the names of S08 and their kind.
var hostile = []string{
	"../../x", "/abs", "CON", "con", "Nul", "COM1", "lpt9", "a.", "a ", " a", "", ".", "..", "...", "a/b", `a\b`, "a:b",
	strings.Repeat("n", 300), "nul\x00byte", "new\nline", "\u202egnp.exe", "🎉", "🎈", ".assetd", ".ASSETD", "é", "e\u0301",
	"\xff\xfe", "a#2", "a*", "manifest.json", "{run_id}", "-rf /", "con.txt",
}

func TestHostileNamesBecomeSafeOnesThatDiffer(t *testing.T) {
	n := parse(t, "{app_id}/{run_id}", "{kind}/{asset_id}{ext}")
	seen := map[string]string{}
	for _, id := range hostile {
		if s := safe(id); s == id || len(s) > longestValue {
			t.Errorf("%q stands as %q", id, s)
		}
		a := run.Asset{Key: run.Key{Kind: run.Images, ID: id}}
		name := n.fileFor(a, ".png", 0)
		checkPath(t, name, 2)
		if other, ok := seen[strings.ToLower(name)]; ok && id != "" {
			t.Errorf("%q and %q both become %q", id, other, name)
		}
		seen[strings.ToLower(name)] = id
		dir := n.dirFor(run.Run{ID: "run1", App: id, Labels: map[string]string{"x": id}})
		checkPath(t, dir, 2)
	}
}

// checkPath holds a name against every rule that any file system here has.
func checkPath(t interface{ Errorf(string, ...any) }, name string, elems int) {
	if !fs.ValidPath(name) || strings.Count(name, "/") != elems-1 {
		t.Errorf("%q is no relative path of %d elements", name, elems)
	}
	for i, elem := range strings.Split(name, "/") {
		for _, c := range elem {
			if c < ' ' || c > '~' || strings.ContainsRune(`\:*?"<>|`, c) {
				t.Errorf("%q holds %q", name, c)
			}
		}
		if len(elem) > longestElem || strings.HasSuffix(elem, ".") || strings.HasSuffix(elem, " ") || isDevice(elem) {
			t.Errorf("%q: element %q is too long, a device or ends badly", name, elem)
		}
		if i == 0 && strings.EqualFold(elem, metaDir) {
			t.Errorf("%q is the volume's own", name)
		}
	}
}

func TestNoValueMakesANameThatIsOurOwn(t *testing.T) {
	n := parse(t, ".{app_id}/{run_id}", "{asset_id}{ext}")
	for _, app := range []string{"assetd", "ASSETD", "AssetD"} {
		checkPath(t, n.dirFor(run.Run{ID: "run1", App: app}), 2)
	}
	n = parse(t, "{run_id}", "{asset_id}{ext}")
	for _, id := range []string{"SHA256SUMS", "sha256sums", "manifest"} {
		a := run.Asset{Key: run.Key{Kind: run.Images, ID: id}}
		if name := n.fileFor(a, "", 0); strings.EqualFold(name, "SHA256SUMS") {
			t.Errorf("asset id %q takes the record's name %q", id, name)
		}
		if name := n.fileFor(a, ".json", 0); strings.EqualFold(name, "manifest.json") {
			t.Errorf("asset id %q takes the record's name %q", id, name)
		}
	}
	n = parse(t, "{run_id}", "CO{asset_id}{ext}")
	checkPath(t, n.fileFor(run.Asset{Key: run.Key{ID: "N"}}, ".png", 0), 1)
}

func TestDifferentIDsGetDifferentNamesAndNoneEscapes(t *testing.T) {
	n := parse(t, "{label.p}{app_id}/{run_id}", "{tool}/{kind}-{asset_id}{ext}")
	value := rapid.OneOf(rapid.String(), rapid.SampledFrom(hostile), rapid.StringMatching(`[a-zA-Z0-9_.-]{1,80}`))
	rapid.Check(t, func(t *rapid.T) {
		a, b := value.Draw(t, "a"), value.Draw(t, "b")
		tool, ext := value.Draw(t, "tool"), rapid.OneOf(value, rapid.Just(".png")).Draw(t, "ext")
		try := rapid.IntRange(0, 3).Draw(t, "try")
		fa := n.fileFor(run.Asset{Tool: tool, Key: run.Key{Kind: run.Images, ID: a}}, ext, try)
		fb := n.fileFor(run.Asset{Tool: tool, Key: run.Key{Kind: run.Images, ID: b}}, ext, try)
		checkPath(t, fa, 2)
		// What stands unchanged may differ by case alone: the queue sees to that.
		if !strings.EqualFold(a, b) && a != "unknown" && b != "unknown" && strings.EqualFold(fa, fb) {
			t.Errorf("%q and %q both become %q", a, b, fa)
		}
		if strings.EqualFold(a, b) && a != b && safe(a) != a && strings.EqualFold(fa, fb) {
			t.Errorf("%q and %q were replaced and both become %q", a, b, fa)
		}
		checkPath(t, n.dirFor(run.Run{ID: "run1", App: a, Labels: map[string]string{"p": b}}), 2)
	})
}

func TestTemplatesThatCannotWorkAreRefusedWithTheMend(t *testing.T) {
	const dir, file = "{run_id}", "{asset_id}{ext}"
	for _, c := range []struct{ dir, file, says string }{
		{"{app_id}", file, "must hold {run_id}"},
		{"", file, "empty"},
		{"/{run_id}", file, "empty"},
		{"a//{run_id}", file, "empty"},
		{"../{run_id}", file, "dot"},
		{"./{run_id}", file, "dot"},
		{"a./{run_id}", file, "dot"},
		{" a/{run_id}", file, "space"},
		{".assetd/{run_id}", file, "volume's own"},
		{".AssetD/{run_id}", file, "volume's own"},
		{"{run_id", file, "without its }"},
		{"{run_id}}", file, "cannot stand"},
		{"{runid}", file, "not known"},
		{"{label.}/{run_id}", file, "not known"},
		{"a\\{run_id}", file, "cannot stand"},
		{"a\x00{run_id}", file, "cannot stand"},
		{dir, "{kind}{ext}", "must hold {asset_id}"},
		{dir, "{index}", "must hold {asset_id}"},
		{dir, "{label.x}{asset_id}", "not known"},
		{dir, "{asset_id}/", "empty"},
	} {
		err := ValidateNames(c.dir, c.file)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "storage.") {
			t.Errorf("%q and %q: %v, want %q", c.dir, c.file, err, c.says)
		}
	}
	if err := ValidateNames("{app_id}/{run_id}", "{kind}/{index}{ext}"); err != nil {
		t.Error(err)
	}
}

func FuzzTemplates(f *testing.F) {
	f.Add("{app_id}/{run_id}", "{kind}/{asset_id}{ext}", "id")
	f.Add("{label.x}{run_id}", "{index}{kind}", "../..")
	f.Add("CON/{run_id}", "{asset_id}", "N.txt")
	f.Fuzz(func(t *testing.T, dir, file, id string) {
		n, err := parseNames(dir, file)
		if err != nil {
			return
		}
		name := n.dirFor(run.Run{ID: "run1", App: id, Labels: map[string]string{"x": id}})
		if !fs.ValidPath(name) || strings.EqualFold(strings.Split(name, "/")[0], metaDir) {
			t.Errorf("template %q makes %q", dir, name)
		}
		name = n.fileFor(run.Asset{Key: run.Key{Kind: run.Images, ID: id}}, ".png", 2)
		if !fs.ValidPath(name) {
			t.Errorf("template %q makes %q", file, name)
		}
	})
}
