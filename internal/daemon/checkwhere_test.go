package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
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
		f := findings(t, machine(t), "offline", "server.listen="+address, "server.token_file="+tokenFile(t))["server.listen"]
		f.is(t, Bad, "another process listens on "+address)
		if !strings.Contains(f.Mend, port) {
			t.Errorf("the mend does not say how to find it: %s", f.Mend)
		}
		l.Close()
		f = findings(t, machine(t), "offline", "server.listen="+address, "server.token_file="+tokenFile(t))["server.listen"]
		f.is(t, Good, address+" is free")
	}
	findings(t, machine(t), "offline", "server.listen=192.0.2.1:7433", "server.token_file="+tokenFile(t))["server.listen"].is(t, Bad, "192.0.2.1:7433")
	if f, told := findings(t, machine(t), "offline")["server.listen"]; told {
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
	for _, f := range Check(t.Context(), c, "", fmt.Errorf("%w: /etc/assetd/api-key", config.ErrServiceKey), false) {
		if f.About == "key" || f.About == "API" {
			f.is(t, Note, map[string]string{"key": "/etc/assetd/api-key", "API": "not asked"}[f.About])
		}
		if f.Grade == Bad && f.About != "CDN" { // which this machine need not reach
			t.Errorf("%+v", f)
		}
	}
}

// queueOf makes a queue in a state directory, and a copy of it.
func queueOf(t *testing.T, state string) (id, file string) {
	t.Helper()
	q, err := queue.Open(state, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Add(t.Context(), []run.HandIn{{ID: "omps2OH829"}}); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "copy.db")
	if _, err := q.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	return q.ID(), file
}

func TestCase_E11_ACopyOfAnotherQueueIsRestoredOnPurposeOnly(t *testing.T) {
	data := machine(t)
	c, _, err := config.Load(config.Options{File: os.DevNull, Set: []string{"data_dir=" + data}})
	if err != nil {
		t.Fatal(err)
	}
	foreign, other := queueOf(t, filepath.Join(machine(t), "state"))
	if r, err := RestoreQueue(c, other, false); err != nil || r.Foreign != "" || r.ID != foreign { // onto a new machine
		t.Fatalf("where no queue is: %+v, %v", r, err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	own, copied := queueOf(t, c.State.Dir)
	before := tree(t, data)
	_, err = RestoreQueue(c, other, false)
	if err == nil || !strings.Contains(err.Error(), foreign) || !strings.Contains(err.Error(), own) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another queue's: %v", err)
	}
	if after := tree(t, data); after != before {
		t.Errorf("it was refused, and yet changed\n%s\nto\n%s", before, after)
	}
	if r, err := RestoreQueue(c, copied, false); err != nil || r.ID != own || r.Foreign != "" {
		t.Errorf("its own: %+v, %v", r, err)
	}
	if r, err := RestoreQueue(c, other, true); err != nil || r.ID != foreign || r.Foreign != own {
		t.Errorf("on purpose: %+v, %v", r, err)
	}
}

// tree is every file below a directory with its size and time.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&all, path, info.Size(), info.ModTime(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
