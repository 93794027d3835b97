package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const sample = "../../configs/assetd.yaml"

// setting is a key as the sample file has it.
type setting struct{ Name, Value, About string }

func readSample(t *testing.T) []setting {
	t.Helper()
	data, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var found []setting
	var walk func(prefix string, node *yaml.Node)
	walk = func(prefix string, node *yaml.Node) {
		for i := 0; i < len(node.Content); i += 2 {
			name, v := node.Content[i], node.Content[i+1]
			if v.Kind == yaml.MappingNode {
				walk(name.Value+".", v)
				continue
			}
			found = append(found, setting{prefix + name.Value, v.Value, name.HeadComment})
		}
	}
	walk("", doc.Content[0])
	return found
}

func TestSampleHoldsEveryKeyWithItsDefault(t *testing.T) {
	var got, want []setting
	for _, s := range readSample(t) {
		got = append(got, setting{Name: s.Name, Value: s.Value})
	}
	for _, k := range table() {
		want = append(want, setting{Name: k.name, Value: k.initial})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-code +file):\n%s", sample, d)
	}
}

func TestSampleSaysWhatEachKeyIsForAndWhatAReloadChanges(t *testing.T) {
	live := map[string]bool{}
	for _, k := range table() {
		live[k.name] = k.live
	}
	for _, s := range readSample(t) {
		if len(s.About) < 10 {
			t.Errorf("%s: no line on what it is for", s.Name)
		}
		if marked := strings.Contains(s.About, "(reload"); marked != live[s.Name] {
			t.Errorf("%s: marked (reload) %v, takes effect at a reload %v", s.Name, marked, live[s.Name])
		}
	}
}

func TestSampleChangesNothing(t *testing.T) {
	options := Options{Environ: []string{"HOME=/home/x"}, UID: 1000}
	plain, warnings, err := Load(options)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	options.File = sample
	loaded, warnings, err := Load(options)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if live, restart := Live(plain, loaded); len(live)+len(restart) > 0 {
		t.Errorf("the sample changes %v %v", live, restart)
	}
	if !loaded.Storage.Default {
		t.Error("storage.dir is not taken for the default")
	}
}

// The defaults of the design, by the fields that the stages read.
func TestDefaultsAreTheDesigns(t *testing.T) {
	c, _, err := Load(Options{File: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		DataDir: "/var/lib/assetd", ShutdownGrace: 25 * second,
		API: API{
			BaseURL: "https://api.magnific.com", RunsPath: "auto", Rate: 5, Burst: 50, Timeout: 30 * second,
		},
		Poll:  Poll{MinInterval: 3 * second, MaxInterval: minute, GiveUpAfter: 72 * hour, NotFoundAfter: hour},
		Drop:  Drop{Dir: "/var/lib/assetd/drop", Settle: 2 * second, Rescan: 10 * second, Keep: 168 * hour},
		State: State{Dir: "/var/lib/assetd/state"},
		Storage: Storage{
			Dir: "/var/lib/assetd/assets", Default: true, RunDir: "{app_id}/{run_id}", FileName: "{kind}/{asset_id}{ext}",
			MinFree: 1 << 30, FileMode: 0o640, DirMode: 0o750,
		},
		Download: Download{
			Workers: 16, Connections: 16, MaxOpen: 256, Margin: 2 * minute, StallTimeout: 30 * second,
			GiveUpAfter: 30 * minute, LostAfter: 168 * hour, MaxSize: 64 << 30,
		},
		Server:    Server{Listen: "127.0.0.1:7433"},
		Hook:      Hook{Timeout: 30 * second, GiveUpAfter: 72 * hour},
		Retention: Retention{Runs: 720 * hour},
		Backup:    Backup{Interval: hour, Keep: 3},
		Log:       Log{Level: "info", Format: "auto"},
	}
	sections := cmp.FilterPath(func(p cmp.Path) bool {
		field, ok := p.Last().(cmp.StructField)
		return ok && p.Index(-2).Type() == reflect.TypeFor[Config]() && field.Name()[0] >= 'a'
	}, cmp.Ignore())
	empty := cmp.FilterValues(func(a, b any) bool {
		x, y := reflect.ValueOf(a), reflect.ValueOf(b)
		return x.IsValid() && x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0
	}, cmp.Ignore())
	if d := cmp.Diff(want, *c, sections, empty); d != "" {
		t.Errorf("defaults (-design +code):\n%s", d)
	}
}

func TestEveryKeyHasItsFieldAndEveryFieldItsKey(t *testing.T) {
	var fields, keys []string
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for f := range typ.Fields() {
			name := f.Tag.Get("key")
			switch {
			case !f.IsExported(), name == "-":
			case f.Type.Kind() == reflect.Struct:
				walk(name+".", f.Type)
			default:
				fields = append(fields, prefix+name)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	for _, k := range table() {
		if k.standard() == nil {
			t.Errorf("%s: its default %q is not a value it can have", k.name, k.initial)
		}
		keys = append(keys, k.name)
	}
	slices.Sort(fields)
	slices.Sort(keys)
	if d := cmp.Diff(fields, keys); d != "" {
		t.Errorf("(-fields +keys):\n%s", d)
	}
}

func TestCase_D5_TheDefaultRateIsWhatOneKeyIsAllowed(t *testing.T) {
	c, warnings, err := Load(Options{File: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	if c.API.Rate != 5 || c.API.Burst != 50 { // 300 a minute
		t.Errorf("api.rate %v, api.burst %d", c.API.Rate, c.API.Burst)
	}
	for _, w := range warnings {
		if w.Key == "api.rate" || w.Key == "api.burst" {
			t.Errorf("a default is warned of: %+v", w)
		}
	}
}
