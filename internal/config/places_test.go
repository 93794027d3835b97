package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// unprivileged runs f with the file access of nobody: file system permissions do
// not hold for root.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.Setfsgid(nobody)
	syscall.Setfsuid(nobody)
	defer syscall.Setfsgid(0)
	defer syscall.Setfsuid(0)
	if _, err := os.ReadFile("/proc/1/environ"); err == nil {
		t.Fatal("still root")
	}
	f()
}

// opened makes a directory, and those that testing made above it, one that
// everybody may search.
func opened(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAHomeThatIsAnothersIsPassedOverWithAWarning(t *testing.T) {
	home := opened(t)
	place := filepath.Join(home, ".config", "assetd", "assetd.yaml")
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place, []byte("log: {level: debug}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, func() {
		_, warnings, err := Load(Options{Environ: []string{"HOME=" + home}, UID: 7})
		want := place + ": cannot be looked for and is passed over: permission denied for user 7; is HOME another user's?"
		if err != nil || len(warnings) != 1 || warnings[0].String() != want {
			t.Errorf("%v, %v\nwant %s", err, warnings, want)
		}
		if _, _, err := Load(Options{File: place, UID: 7}); err == nil {
			t.Error("a file that was named was passed over")
		}
	})
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(place, 0); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, func() { // it is there, and its settings are meant
		_, _, err := Load(Options{Environ: []string{"HOME=" + home}, UID: 7})
		if want := place + ": permission denied; the configuration must be a file that user 7 can read"; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	})
}

func TestTheMachinesFileIsNeverPassedOver(t *testing.T) {
	dir := opened(t)
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "assetd.yaml")
	unprivileged(t, func() {
		l := newLoader()
		l.readFirst([]string{place, "/nowhere"}, false, 7)
		want := place + ": permission denied; use sudo, or add user 7 to the file's group (assetd), or name another file with --config"
		if len(l.problems) != 1 || l.problems[0].String() != want {
			t.Errorf("%v\nwant %s", l.problems, want)
		}
	})
}

func TestAKeyFileWithoutPermissionIsNamed(t *testing.T) {
	file := filepath.Join(opened(t), "key")
	if err := os.WriteFile(file, []byte("planted"), 0); err != nil {
		t.Fatal(err)
	}
	cfg, _ := load(t, "", Options{Set: []string{"api.key_file=" + file}})
	unprivileged(t, func() {
		_, err := cfg.APIKey()
		if want := "api.key_file " + file + ": permission denied: it must be a file that user 1000 can read"; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	})
}

func TestTheLineThatIsNotYAMLIsNamedAlsoInALongFile(t *testing.T) {
	text := strings.Repeat("# a line\n", 5000) + "storage:\n  run_dir: {app_id}/{run_id}\n" + strings.Repeat("# a line\n", 5000)
	file := write(t, "assetd.yaml", text)
	_, _, err := Load(Options{File: file})
	want := file + `:5002: is not YAML: did not find expected key; put the value in quotes, like "{app_id}/{run_id}": a bare { begins keys and values`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestEveryWrongValueOfEveryKeyIsNamedWithPlaceAndMend(t *testing.T) {
	inFiles := []string{"[a, [b]]", "{a: b}", "-1", "2026-01-31", `"\u0000"`, "!x y", "", "true", "|\n    a\n    b"}
	inOthers := []string{"", "-1", "~/x", "\x00", strings.Repeat("9", 400), "nobody:secret@x"}
	wrong := 0
	judge := func(k key, where string, o Options) {
		o.Environ = append(o.Environ, "HOME=/home/x")
		_, _, err := Load(o)
		if err == nil {
			return
		}
		wrong++
		var all *Error
		if !errors.As(err, &all) || len(all.Problems) != 1 {
			t.Errorf("%s: %v", k.name, err)
			return
		}
		// A data_dir can be too long for the socket in state.dir.
		if p := all.Problems[0]; p.Key != k.name && (p.Key != "state.dir" || k.name != "data_dir") || p.Where != where || p.What == "" || p.Mend == "" {
			t.Errorf("%s at %s: %s", k.name, where, p)
		}
		if len(err.Error()) > 500 {
			t.Errorf("%s: %d bytes: %.200s", k.name, len(err.Error()), err)
		}
	}
	for _, k := range table() {
		section, name := cutLast(k.name)
		for _, text := range inFiles {
			file, line := k.name+": "+text+"\n", "1"
			if section != "" {
				file, line = section+":\n  "+name+": "+text+"\n", "2"
			}
			file = write(t, "assetd.yaml", file)
			judge(k, file+":"+line, Options{File: file})
		}
		for _, text := range inOthers {
			judge(k, "--set", Options{File: os.DevNull, Set: []string{k.name + "=" + text}})
			judge(k, "environment "+k.envName(), Options{File: os.DevNull, Environ: []string{k.envName() + "=" + text}})
		}
	}
	if least := 10 * len(table()); wrong < least {
		t.Errorf("%d values were wrong, of at least %d", wrong, least)
	}
}
