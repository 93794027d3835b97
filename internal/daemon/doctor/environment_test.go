package doctor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/config"
)

func TestCase_E12_CheckSaysThatAnotherProcessListens(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0"} {
		l, err := net.Listen("tcp", network)
		if err != nil {
			t.Logf("%s: %v", network, err) // a machine without IPv6
			continue
		}
		address := l.Addr().String()
		_, port, _ := net.SplitHostPort(address)
		f := checks(t, machine(t), "offline", "server.listen="+address, "server.token_file="+tokenFile(t))["server.listen"]
		f.is(t, Bad, "another process listens on "+address)
		if !strings.Contains(f.Hint, port) {
			t.Errorf("the hint does not say how to find it: %s", f.Hint)
		}
		l.Close()
		f = checks(t, machine(t), "offline", "server.listen="+address, "server.token_file="+tokenFile(t))["server.listen"]
		f.is(t, Good, address+" is free")
	}
	checks(t, machine(t), "offline", "server.listen=192.0.2.1:7433", "server.token_file="+tokenFile(t))["server.listen"].is(t, Bad, "192.0.2.1:7433")
	if f, told := checks(t, machine(t), "offline")["server.listen"]; told {
		t.Errorf("nothing is listened on, and yet: %+v", f)
	}
}

func tokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCase_E1_CheckTakesAKeyThatOnlyTheServiceReadsForNoFault(t *testing.T) {
	c, _, err := config.Load(config.Options{File: os.DevNull, Set: []string{"data_dir=" + machine(t), "server.listen="}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Run(t.Context(), c, "", fmt.Errorf("%w: /etc/assetd/api-key", config.ErrServiceKey), false) {
		if f.About == "key" || f.About == "API" {
			f.is(t, Note, map[string]string{"key": "/etc/assetd/api-key", "API": "not asked"}[f.About])
		}
		if f.Grade == Bad && f.About != "CDN" { // which this machine need not reach
			t.Errorf("%+v", f)
		}
	}
}
