package config

import (
	"bytes"
	"strings"
	"testing"
)

func TestCase_A21_UserAgentIsTheProgramsOrTheOneThatWasSet(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		set     []string
		environ []string
		want    string
		from    string
	}{
		"release":       {"1.2.3", nil, nil, "assetd/1.2.3", "default"},
		"commit":        {"commit 0123456789ab", nil, nil, "assetd/commit-0123456789ab", "default"},
		"odd version":   {"v1 (dirty)/é\n", nil, nil, "assetd/v1--dirty----", "default"},
		"set":           {"1.2.3", []string{"download.user_agent=Mozilla/5.0 (X11; Linux)"}, nil, "Mozilla/5.0 (X11; Linux)", "--set"},
		"set to none":   {"1.2.3", []string{"download.user_agent="}, nil, "assetd/1.2.3", "default"},
		"environment":   {"1.2.3", nil, []string{"ASSETD_DOWNLOAD_USER_AGENT=studio/1"}, "studio/1", "environment ASSETD_DOWNLOAD_USER_AGENT"},
		"set before it": {"1.2.3", []string{"download.user_agent=a"}, []string{"ASSETD_DOWNLOAD_USER_AGENT=b"}, "a", "--set"},
	} {
		got, _, err := Load(Options{Set: c.set, Environ: append(c.environ, "HOME=/home/x"), UID: 1000, Version: c.version})
		if err != nil || got.Download.UserAgent != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got.Download.UserAgent, err, c.want)
			continue
		}
		var shown bytes.Buffer
		if err := got.Print(&shown); err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(shown.String(), "user_agent: "+c.want); i < 0 || !strings.Contains(strings.Split(shown.String()[i:], "\n")[0], "# "+c.from) {
			t.Errorf("%s: shown as\n%s", name, shown.String())
		}
	}
}

func TestCase_A21_UserAgentThatNoHeaderCanHoldIsAFault(t *testing.T) {
	for _, text := range []string{"a\r\nX-Evil: 1", "a\nb", "a\x00", "é", " a", "a\t", strings.Repeat("x", maxUserAgent+1)} {
		_, _, err := Load(Options{Set: []string{"download.user_agent=" + text}, Environ: []string{"HOME=/home/x"}, UID: 1000})
		if err == nil || !strings.Contains(err.Error(), "download.user_agent") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
