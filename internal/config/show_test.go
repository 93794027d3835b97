package config

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func printed(t *testing.T, c *Config) string {
	t.Helper()
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrintNamesWhereEachValueComesFrom(t *testing.T) {
	c, _ := load(t, "log:\n  level: warn\n", Options{
		Environ: []string{"ASSETD_DOWNLOAD_WORKERS=3", "STATE_DIRECTORY=/s", "MAGNIFIC_API_KEY=plantedsecret"}, Set: []string{"poll.max_interval=90s"},
	})
	text := printed(t, c)
	for _, want := range []string{
		"# the configuration in force; file: " + c.File() + "\n# API key: from $MAGNIFIC_API_KEY (not shown)\ndata_dir: /s  ",
		"# default, from $STATE_DIRECTORY\n",
		"\n  level: warn                                        # " + c.File() + ":2\n",
		"\n  workers: 3                                         # environment ASSETD_DOWNLOAD_WORKERS\n",
		"\n  max_interval: 1m30s                                # --set\n",
		"\n  file_mode: 0640                                    # default\n",
		"\n  allow_networks: []                                 # default\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not found: %q in\n%s", want, text)
		}
	}
}

func TestPrintedConfigurationIsTheSameWhenReadAgain(t *testing.T) {
	for _, command := range []string{"yes", "two\nlines \"quoted\""} {
		c, _ := load(t, "", Options{Set: []string{
			"data_dir=/data: # with odd \"names\"", "storage.file_name={index}-{kind} #x{ext}", "hook.command=" + command, "download.allow_networks=10.0.0.0/8,fd00::/8",
			"api.rate=2.5", "storage.min_free=1500B", "storage.dir_mode=0700", "shutdown_grace=1500ms", "server.listen=",
		}})
		again, _ := load(t, printed(t, c), Options{})
		if live, restart := Live(c, again); len(live)+len(restart) > 0 {
			t.Errorf("%v %v differ in\n%s", live, restart, printed(t, c))
		}
	}
}

func TestNothingPrintedHoldsASecret(t *testing.T) {
	set := []string{
		"api.proxy=http://me:plantedsecret@proxy.example:3128", "download.proxy=socks5://plantedsecret@proxy.example:1080",
		"hook.url=https://hooks.example/services/plantedsecret?plantedsecret=1#plantedsecret",
	}
	c, warnings := load(t, "", Options{Set: set, Environ: []string{"ASSETD_API_KEY=plantedsecret", "MAGNIFIC_API_KEY=plantedsecret"}})
	text := printed(t, c) + fmt.Sprint(warnings)
	for _, want := range []string{"http://xxxxx@proxy.example:3128", "socks5://xxxxx@proxy.example:1080", "https://hooks.example/xxxxx"} {
		if !strings.Contains(text, want) {
			t.Errorf("not found: %s", want)
		}
	}
	if strings.Contains(text, "planted") {
		t.Errorf("a secret is printed:\n%s", text)
	}
	for _, s := range []string{
		"api.proxy=ftp://me:plantedsecret@proxy", "api.proxy=me:plantedsecret@proxy:80", "api.proxy=http://me:planted%secret@proxy", "hook.url=ftp://x/plantedsecret",
		"api.base_url=https://plantedsecret@api.example", "api.base_url=https://api.example?k=plantedsecret", "api.key_file=plantedsecret", "api.token=plantedsecret",
		"hooks.url=https://u:plantedsecret@hooks.example", "api.base_url=http://api.example/#plantedsecret", "webhook.secret_file=plantedsecret",
	} {
		_, _, err := Load(Options{File: "/dev/null", Set: []string{s}})
		if err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: the error is %v", s, err)
		}
	}
}

func TestValuesReadAsTheyAreShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(shortest), int64(longest)).Draw(t, "duration"))
		d = d.Truncate(rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour}).Draw(t, "unit"))
		if d < shortest {
			d = shortest
		}
		if got, err := duration().parse(show(d)); err != nil || got != d {
			t.Fatalf("%v is shown as %s and read as %v, %v", d, show(d), got, err)
		}
		// Sizes beyond 2^53 bytes are read in floating point.
		n := rapid.Int64Range(0, 1<<20).Draw(t, "size") << rapid.IntRange(0, 33).Draw(t, "shift")
		if got, err := byteRate().parse(show(n)); err != nil || got != n {
			t.Fatalf("%d bytes are shown as %s and read as %v, %v", n, show(n), got, err)
		}
	})
}

func TestSizesAndDurationsAreShownBriefly(t *testing.T) {
	got := []string{
		show(72 * hour), show(90 * minute), show(10 * second), show(100 * time.Millisecond), show(hour + second),
		show(int64(1 << 30)), show(int64(1_000_000)), show(int64(0)), show(int64(1023)), show(int64(math.MaxInt64)), show(int64(64 << 30)),
	}
	want := []string{"72h", "1h30m", "10s", "100ms", "1h0m1s", "1GiB", "1MB", "0B", "1023B", "9223372036854775807B", "64GiB"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
