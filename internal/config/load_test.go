package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	second = time.Second
	minute = time.Minute
	hour   = time.Hour
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads a file with the text and settings, as a user with a home.
func load(t *testing.T, text string, o Options) (*Config, []Warning) {
	t.Helper()
	o.File = write(t, "assetd.yaml", text)
	o.Environ = append([]string{"HOME=/home/x"}, o.Environ...)
	o.UID = 1000
	c, warnings, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func TestSetBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	text := "download:\n  workers: 2\n  connections: 3\n  max_open: 4\n"
	c, _ := load(t, text, Options{
		Environ: []string{"ASSETD_DOWNLOAD_WORKERS=20", "ASSETD_DOWNLOAD_CONNECTIONS=30"},
		Set:     []string{"download.workers=100", "download.workers=200"},
	})
	d := c.Download
	if got, want := []int{d.Workers, d.Connections, d.MaxOpen, c.Backup.Keep}, []int{200, 30, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("--set, environment, file, default: %v, want %v", got, want)
	}
}

func TestFileIsLookedForInTheOrderOfTheDesign(t *testing.T) {
	for name, c := range map[string]struct {
		named string
		env   environment
		want  []string
		must  bool
	}{
		"--config":            {"/a", environment{"ASSETD_CONFIG": "/b"}, []string{"/a"}, true},
		"$ASSETD_CONFIG":      {"", environment{"ASSETD_CONFIG": "/b", "HOME": "/h"}, []string{"/b"}, true},
		"the usual places":    {"", environment{"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, []string{SystemFile, "/x/assetd/assetd.yaml"}, false},
		"no $XDG_CONFIG_HOME": {"", environment{"HOME": "/h"}, []string{SystemFile, "/h/.config/assetd/assetd.yaml"}, false},
		"a relative one":      {"", environment{"XDG_CONFIG_HOME": "x", "HOME": "/h"}, []string{SystemFile, "/h/.config/assetd/assetd.yaml"}, false},
		"no home":             {"", environment{}, []string{SystemFile}, false},
	} {
		if got, must := places(c.named, c.env); !slices.Equal(got, c.want) || must != c.must {
			t.Errorf("%s: %v, must exist %v; want %v, %v", name, got, must, c.want, c.must)
		}
	}
}

func TestFirstFileThatExistsIsTaken(t *testing.T) {
	first, second := write(t, "first", "a"), write(t, "second", "b")
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{first, second}, first},
		{[]string{none, second}, second},
		{[]string{none}, ""},
		{[]string{filepath.Join(first, "assetd.yaml"), second}, second}, // HOME=/dev/null and the like
	} {
		l := newLoader()
		if got, _ := l.readFirst(c.paths, false, 0); got != c.want || len(l.problems)+len(l.warnings) > 0 {
			t.Errorf("%v: %q, %v, %v; want %q", c.paths, got, l.problems, l.warnings, c.want)
		}
	}
}

func TestFileThatCannotBeReadIsNotPassedOver(t *testing.T) {
	dir := t.TempDir()
	large := write(t, "large", strings.Repeat("# no end\n", 120_000))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory; the configuration must be a file that user 7 can read",
		dir:                        "is a directory; the configuration must be a file that user 7 can read",
		large:                      "is larger than 1 MiB; is this the right file?",
	} {
		_, _, err := Load(Options{File: path, UID: 7, Environ: []string{"HOME=/h"}})
		if err == nil || err.Error() != path+": "+want {
			t.Errorf("%v\nwant %s: %s", err, path, want)
		}
	}
	l := newLoader()
	if l.readFirst([]string{large, dir}, false, 0); len(l.problems) != 1 || l.problems[0].Where != large {
		t.Errorf("a file that is there but unusable was passed over: %v", l.problems)
	}
}

func TestFilesWithoutKeysAreTheDefaults(t *testing.T) {
	plain, _, err := Load(Options{Environ: []string{"HOME=/home/x"}, UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "\n", "# a comment\n", "---\n", "\ufeff# BOM\r\n", "download:\n  # workers: 3\nlog:\n", "{}", "~\n", "api:\n  key_file:\n  proxy:\n"} {
		c, warnings := load(t, text, Options{})
		if live, restart := Live(plain, c); len(live)+len(restart)+len(warnings) > 0 {
			t.Errorf("%q changes %v %v %v", text, live, restart, warnings)
		}
	}
}

func TestValuesAreReadInEveryNotation(t *testing.T) {
	c, _ := load(t, `
shutdown_grace: 1m30s
api: {rate: 2.5, timeout: 1500ms, base_url: "http://[::1]:8080/x"}
poll:
  give_up_after: "72h"
storage:
  min_free: 1.5 GiB
  mounted: True
download:
  max_rate: 1048576
  max_size: 10GB
  allow_networks: [10.1.2.3/8, "fd00::/8"]
  proxy: &p socks5://proxy:1080
server: {listen: "localhost:0"}
`, Options{Environ: []string{"ASSETD_STORAGE_RUN_DIR={date}/{label.shot name}/{run_id}"}})
	got := []any{
		c.ShutdownGrace, c.API.Rate, c.API.Timeout, c.API.BaseURL, c.Poll.GiveUpAfter, c.Storage.MinFree, c.Storage.Mounted,
		c.Download.MaxRate, c.Download.MaxSize, c.Download.AllowNetworks, c.Download.ProxyURL().Host, c.Server.Listen, c.Storage.RunDir,
	}
	want := []any{
		90 * second, 2.5, 1500 * time.Millisecond, "http://[::1]:8080/x", 72 * hour, int64(3 << 29), true,
		int64(1 << 20), int64(10_000_000_000),
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		"proxy:1080", "localhost:0", "{date}/{label.shot name}/{run_id}",
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestModesAreOctalHoweverTheyAreWritten(t *testing.T) {
	for _, text := range []string{"0640", `"0640"`, "0o640", "640", `'0o640'`} {
		if c, _ := load(t, "storage:\n  file_mode: "+text+"\n", Options{}); c.Storage.FileMode != fs.FileMode(0o640) {
			t.Errorf("%s is %04o", text, c.Storage.FileMode)
		}
		plain := strings.Trim(text, `"'`)
		if c, _ := load(t, "", Options{Environ: []string{"ASSETD_STORAGE_FILE_MODE=" + plain}}); c.Storage.FileMode != fs.FileMode(0o640) {
			t.Errorf("%s in the environment is %04o", plain, c.Storage.FileMode)
		}
	}
}

func TestAnAliasStandsForItsValue(t *testing.T) {
	c, _ := load(t, "api:\n  proxy: &p http://proxy:3128\ndownload:\n  proxy: *p\n", Options{})
	if c.Download.Proxy != "http://proxy:3128" {
		t.Errorf("download.proxy is %q", c.Download.Proxy)
	}
}

func TestListsInTheEnvironmentHaveCommas(t *testing.T) {
	c, _ := load(t, "download:\n  allow_networks: [192.168.0.0/16]\n", Options{Environ: []string{"ASSETD_DOWNLOAD_ALLOW_NETWORKS=10.0.0.0/8, fd00::/8,"}})
	if got := fmt.Sprint(c.Download.AllowNetworks); got != "[10.0.0.0/8 fd00::/8]" {
		t.Errorf("two networks: %s", got)
	}
	c, _ = load(t, "download:\n  allow_networks: [192.168.0.0/16]\n", Options{Set: []string{"download.allow_networks="}})
	if n := len(c.Download.AllowNetworks); n != 0 {
		t.Errorf("an empty list holds %d", n)
	}
}

func TestDirectoriesFollowTheDataDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		set     []string
		uid     int
		want    string // data, drop, state, assets
		isset   bool
	}{
		"root":                     {nil, nil, 0, "/var/lib/assetd /var/lib/assetd/drop /var/lib/assetd/state /var/lib/assetd/assets", false},
		"a user":                   {[]string{"HOME=/h"}, nil, 5, "/h/.local/state/assetd /h/.local/state/assetd/drop /h/.local/state/assetd/state /h/.local/state/assetd/assets", false},
		"$XDG_STATE_HOME":          {[]string{"HOME=/h", "XDG_STATE_HOME=/x"}, nil, 5, "/x/assetd /x/assetd/drop /x/assetd/state /x/assetd/assets", false},
		"$STATE_DIRECTORY":         {[]string{"HOME=/h", "STATE_DIRECTORY=/s"}, nil, 5, "/s /s/drop /s/state /s/assets", false},
		"several of them":          {[]string{"STATE_DIRECTORY=/s:/t"}, nil, 5, "/s /s/drop /s/state /s/assets", false},
		"data_dir":                 {[]string{"STATE_DIRECTORY=/s"}, []string{"data_dir=/d/"}, 5, "/d /d/drop /d/state /d/assets", false},
		"each of its own, no home": {nil, []string{"drop.dir=/a", "state.dir=/b", "storage.dir=/c"}, 5, " /a /b /c", true},
		"set back to the default":  {nil, []string{"storage.dir=/c", "storage.dir="}, 0, "/var/lib/assetd /var/lib/assetd/drop /var/lib/assetd/state /var/lib/assetd/assets", false},
	} {
		got, _, err := Load(Options{File: "/dev/null", Environ: c.environ, Set: c.set, UID: c.uid})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		dirs := strings.Join([]string{got.DataDir, got.Drop.Dir, got.State.Dir, got.Storage.Dir}, " ")
		if dirs != c.want || got.Storage.Default == c.isset {
			t.Errorf("%s: %s, default %v; want %s, %v", name, dirs, got.Storage.Default, c.want, !c.isset)
		}
	}
	_, _, err := Load(Options{File: "/dev/null", UID: 5})
	if want := "data_dir has no default: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME is set; set data_dir"; err == nil || err.Error() != want {
		t.Errorf("no home at all: %v, want %s", err, want)
	}
}

func TestRelativePathsCountFromTheWorkingDirectory(t *testing.T) {
	c, _ := load(t, "", Options{Set: []string{"storage.dir=assets/x", "api.key_file=./key"}})
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c.Storage.Dir != filepath.Join(here, "assets/x") || c.API.KeyFile != filepath.Join(here, "key") {
		t.Errorf("%s, %s below %s", c.Storage.Dir, c.API.KeyFile, here)
	}
}

func TestErrorsOfAllPlacesAreToldAtOnce(t *testing.T) {
	file := write(t, "assetd.yaml", "download:\n  workers: none\n")
	_, _, err := Load(Options{
		File: file, Environ: []string{"HOME=/h", "ASSETD_STORAGE_MIN_FREE=much", "ASSETD_STORAGE_MOUNTED="},
		Set: []string{"log.level", "log.levle=info", "poll.max_interval=1s", "api.key=plantedsecret", "download.allow_networks=10.0.0.0/8,here"},
	})
	want := `8 errors in the configuration:
  ` + file + `:2: download.workers = "none" is not a whole number; write a whole number from 1 to 1000000
  environment ASSETD_STORAGE_MOUNTED: storage.mounted = "" is neither true nor false; write true or false
  environment ASSETD_STORAGE_MIN_FREE: storage.min_free = "much" is not a size; write it like 500MiB, 1GiB or 1GB
  --set: log.level has no value; write --set key=value
  --set: log.levle = "info" is not a key; did you mean log.level?
  --set: api.key = (not shown) is not a key; did you mean api.key_file?
  --set: download.allow_networks = "10.0.0.0/8,here" holds "here", which is not a network; write it like 10.0.0.0/8
  --set: poll.max_interval = 1s is less than poll.min_interval, 3s; write at least 3s`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

func TestTwoKeysThatDoNotFitAreToldWhereOneWasSet(t *testing.T) {
	_, _, err := Load(Options{File: "/dev/null", Environ: []string{"ASSETD_POLL_MIN_INTERVAL=2m"}})
	want := "environment ASSETD_POLL_MIN_INTERVAL: poll.max_interval = 1m is less than poll.min_interval, 2m; write at least 2m"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestLongAndStrangeValuesAreQuotedBriefly(t *testing.T) {
	for set, want := range map[string]string{
		"log.level=" + strings.Repeat("x", 500):          `--set: log.level = "` + strings.Repeat("x", 80) + `..." is not one of the choices; write debug, info, warn or error`,
		"log.level=a\nb\x1b[31m":                         `--set: log.level = "a\nb\x1b[31m" is not one of the choices; write debug, info, warn or error`,
		"drop.dir=/a\x00b":                               `--set: drop.dir = "/a\x00b" is not a path; remove the line break, or whatever control character it holds`,
		"hook.command=/a\x00b":                           `--set: hook.command = "/a\x00b" is not a command; remove the NUL byte`,
		"server.listen=a b:80":                           `--set: server.listen = "a b:80" has no host before port 80; write host:port, like 127.0.0.1:7433`,
		"server.listen=127.0.0.1:+80":                    `--set: server.listen = "127.0.0.1:+80" has no port from 0 to 65535; write host:port, like 127.0.0.1:7433`,
		"download.max_rate=1xB":                          `--set: download.max_rate = "1xB" is not a size; write it in bytes a second, like 20MiB, or 0 for no limit`,
		"storage.min_free=99999999999999999999999999EiB": `--set: storage.min_free = "99999999999999999999999999EiB" is out of range; write less than 8EiB`,
		strings.Repeat("y", 500) + "=1":                  "--set: " + strings.Repeat("y", 80) + `... = "1" is not a key; configs/assetd.yaml holds all keys`,
	} {
		_, _, err := Load(Options{File: "/dev/null", Set: []string{set}})
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestAFileOfSomethingElseDoesNotFloodTheTerminal(t *testing.T) {
	_, _, err := Load(Options{File: write(t, "other.yaml", strings.Repeat("- x\n", 3)+"a: 1"), UID: 0})
	if err == nil || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("a broken file: %v", err)
	}
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, "x%d: 1\n", i)
	}
	_, _, err = Load(Options{File: write(t, "other.yaml", text.String()), UID: 0})
	if err == nil || strings.Count(err.Error(), "\n") != 101 || !strings.HasSuffix(err.Error(), "\n  and 150 more") {
		t.Errorf("250 unknown keys: %v", err)
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	_, warnings := load(t, "", Options{Environ: []string{
		"ASSETD_DOWNLOAD_WORKER=plantedsecret", "ASSETD_PORT=tcp://10.0.0.1:80", "OTHER=1",
		"ASSETD_CONFIG=", "ASSETD_API_KEY=plantedsecret", "ASSETD_TEST_FULL=1",
		"ASSETD_EVENT=run.stored", "ASSETD_LABEL_SHOT=7", // of a hook that calls assetd
	}})
	want := []Warning{
		{"environment ASSETD_DOWNLOAD_WORKER", "is not a variable that assetd knows and has no effect; did you mean ASSETD_DOWNLOAD_WORKERS?"},
		{"environment ASSETD_PORT", "is not a variable that assetd knows and has no effect"},
	}
	if d := cmp.Diff(want, warnings); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestUnwiseValuesAreWarnings(t *testing.T) {
	open := write(t, "key", "k")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  string
		want string // the keys warned of
	}{
		{"shutdown_grace=45s", ""},
		{"shutdown_grace=46s", "shutdown_grace"},
		{"api.rate=5", ""},
		{"api.rate=5.5", "api.rate"},
		{"api.rate=10", "api.rate"},
		{"api.burst=51", "api.burst"},
		{"api.proxy=http://p:1", "api.proxy"},
		{"api.base_url=https://api.magnific.com/v1/ai/apps/runs/", "api.base_url"},
		{"api.key_file=" + open, "api.key_file"},
		{"drop.dir=/data/assets/drop", "drop.dir"},
		{"storage.dir=/data/drop/assets", "storage.dir"},
		{"storage.dir=/", "drop.dir state.dir"},
		{"storage.dir=/data/drop-assets", ""},
		{"storage.file_mode=0440", "storage.file_mode"},
		{"storage.file_mode=0646", "storage.file_mode"},
		{"storage.dir_mode=0640", "storage.dir_mode"},
		{"storage.dir_mode=0777", "storage.dir_mode"},
		{"download.workers=257", "download.workers"},
		{"download.proxy=http://p:1", "download.proxy"},
		{"download.margin=4h", "download.margin"},
		{"download.allow_http=true", "download.allow_http"},
		{"download.allow_networks=10.0.0.0/8,::/0", "download.allow_networks"},
		{"server.listen=", ""},
		{"hook.url=http://127.0.0.1:1/x", "hook.secret_file"},
		{"hook.url=http://hooks.example/x", "hook.url hook.secret_file"},
		{"hook.secret_file=" + open, "hook.secret_file hook.secret_file"},
	} {
		_, warnings := load(t, "data_dir: /data\n", Options{Set: []string{c.set}})
		var keys []string
		for _, w := range warnings {
			keys = append(keys, w.Key)
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%s: warnings of %q, want %q: %v", c.set, got, c.want, warnings)
		}
	}
	_, warnings := load(t, "", Options{Set: []string{"server.listen=:80", "server.token_file=/t"}})
	if len(warnings) != 1 || warnings[0].Key != "server.listen" {
		t.Errorf("open to others with a token: %v", warnings)
	}
}

func TestLiveTellsWhatAReloadCanChange(t *testing.T) {
	old, _ := load(t, "", Options{})
	same, _ := load(t, "poll:\n  max_interval: 60s\n", Options{})
	if live, restart := Live(old, same); len(live)+len(restart) > 0 {
		t.Errorf("60s is 1m, and yet %v %v changed", live, restart)
	}
	next, _ := load(t, "data_dir: /data\n", Options{Set: []string{
		"api.rate=4", "download.max_rate=1MB", "download.workers=3", "log.level=debug", "retention.runs=1h", "download.allow_networks=10.0.0.0/8", "hook.url=https://h.example",
	}})
	live, restart := Live(old, next)
	if d := cmp.Diff([]string{"api.rate", "download.max_rate", "hook.url", "retention.runs", "log.level"}, live); d != "" {
		t.Errorf("live (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"data_dir", "drop.dir", "state.dir", "storage.dir", "download.workers", "download.allow_networks"}, restart); d != "" {
		t.Errorf("restart (-want +got):\n%s", d)
	}
}

func TestReloadedTakesTheLiveKeysAndNoOther(t *testing.T) {
	old, _ := load(t, "data_dir: /data\n", Options{})
	next, _ := load(t, "data_dir: /other\n", Options{Set: []string{
		"api.rate=4", "poll.max_interval=2m", "storage.dir=/x", "download.workers=3", "download.allow_networks=10.0.0.0/8", "download.max_rate=1MB", "log.level=debug",
	}})
	mixed := old.Reloaded(next)
	live, restart := Live(old, mixed)
	if d := cmp.Diff([]string{"api.rate", "poll.max_interval", "download.max_rate", "log.level"}, live); d != "" || len(restart) > 0 {
		t.Errorf("%v (-want +got):\n%s", restart, d)
	}
	got := []any{mixed.API.Rate, mixed.Download.Workers, len(mixed.Download.AllowNetworks), mixed.Storage.Dir, mixed.Storage.Default, mixed.DataDir, mixed.Log.Level}
	if d := cmp.Diff([]any{4.0, 16, 0, "/data/assets", true, "/data", "debug"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The keys that design 3.2 lists for SIGHUP.
func TestLiveKeysAreTheDesigns(t *testing.T) {
	listed := strings.Fields(`api.key_file api.rate api.burst api.timeout poll. drop.settle drop.rescan drop.keep storage.min_free
		download.margin download.stall_timeout download.give_up_after download.lost_after download.max_rate hook. retention. log.`)
	for _, k := range table() {
		want := slices.ContainsFunc(listed, func(l string) bool {
			return l == k.name || strings.HasSuffix(l, ".") && strings.HasPrefix(k.name, l)
		})
		if k.live != want {
			t.Errorf("%s: live %v, want %v", k.name, k.live, want)
		}
	}
}

func TestSlipsCountsLettersInsertedRemovedReplacedAndExchanged(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"workers", "workers"}: 0, {"worker", "workers"}: 1, {"workerss", "workers"}: 1, {"wurkers", "workers"}: 1, {"wrokers", "workers"}: 1, {"", "abc"}: 3, {"ca", "abc"}: 3,
	} {
		if got := slips(pair[0], pair[1]); got != want {
			t.Errorf("%v: %d, want %d", pair, got, want)
		}
	}
}
