package config

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/storage"
)

// What config takes as a template, storage must be able to use, and the reverse.
func TestTemplatesAreThoseThatStorageTakes(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"{app_id}", "{run_id}", "{date}", "{label.x}", "{label.}", "{label. y}", "{kind}", "{asset_id}", "{index}", "{ext}", "{tool}", "{other}", "{}",
		"{", "}", "/", "//", ".", "..", " ", "a", "-", ":", `\`, "\x00", "\xff", ".assetd", ".ASSETD/", "é", "{{run_id}}", "manifest.json",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
		if rapid.Bool().Draw(t, "likely") {
			text = "{run_id}{asset_id}"[rapid.SampledFrom([]int{0, 8}).Draw(t, "from"):] + text
		}
		_, err := runDir().parse(text)
		if want := storage.ValidateNames(text, "{asset_id}"); (err == nil) != (want == nil) {
			t.Fatalf("run_dir %q: config says %v, storage %v", text, err, want)
		}
		_, err = fileName().parse(text)
		if want := storage.ValidateNames("{run_id}", text); (err == nil) != (want == nil) {
			t.Fatalf("file_name %q: config says %v, storage %v", text, err, want)
		}
	})
}

func FuzzDurations(f *testing.F) {
	for _, text := range []string{"30s", "1h30m", "-1s", "3d", "1e9h", "99999999999999999h", "", "s", "0", ".5s", "1.7976931348623157e308h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := duration().parse(text)
		if d, ok := v.(time.Duration); err == nil && (!ok || d < shortest || d > longest) {
			t.Errorf("%q is read as %v", text, v)
		}
	})
}

func FuzzSizes(f *testing.F) {
	for _, text := range []string{"1GiB", "0B", "1.5 GB", "1,5GiB", "8EiB", "-1", "99999999999999999999999B", "", ".", "1 ", "١GiB", "0x10B", "1e3", "NaN", "Inf"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range []kind{size(1), byteRate()} {
			v, err := k.parse(text)
			if n, ok := v.(int64); err == nil && (!ok || n < 0 || n == math.MinInt64) {
				t.Errorf("%q is read as %v", text, v)
			}
			var f fault
			if err != nil && !errors.As(err, &f) {
				t.Errorf("%q: the error is not a fault: %v", text, err)
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no files to begin with: ", err)
	}
	for _, name := range append(files, sample) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"a: &a [*a]", "&a {download: *a}", "? [x]\n: y\n", "download: &d {workers: &d 3, <<: *d}", "%YAML 1.1\n--- !!map {}", "\xff\xfed\x00", "- - - -", "{{{{", "!!binary x", "download: !x {}", "log: |\n x", "a: *b"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newLoader()
		l.layer(func() { l.fileLayer("file", data) })
		for _, p := range l.problems {
			if text := p.String(); p.What == "" || p.Mend == "" || strings.ContainsAny(text, "\x00\n") {
				t.Errorf("the problem %q of %q", text, data)
			}
		}
	})
}
