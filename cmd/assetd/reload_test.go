package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// reload puts text into the configuration file, has the daemon read it again, and
// waits until it has said so once more.
func (p *process) reload(file, text, said string) {
	p.r.t.Helper()
	before := strings.Count(p.r.log.String(), said)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.r.t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.r.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(p.r.log.String(), said) == before {
		select {
		case <-ctx.Done():
			p.r.t.Fatalf("%q was not said\n%s", said, p.r.log)
		case <-tick.C:
		}
	}
}

func TestSIGHUPTakesWhatIsRightAndNothingOfWhatIsBroken(t *testing.T) {
	const (
		kept  = "configuration or key cannot be read again, nothing was changed"
		taken = "configuration and key read again"
	)
	r := newRig(t, nil)
	r.settings = slices.DeleteFunc(r.settings, func(s string) bool { return strings.HasPrefix(s, "download.") })
	keyFile := filepath.Join(r.dir, "key")
	if err := os.WriteFile(keyFile, []byte(r.sim.Key()), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "assetd.yaml")
	good := "api: {key_file: " + keyFile + "}\nlog: {format: json}\n"
	download := "download: {allow_http: true, allow_networks: [127.0.0.0/8]}\n"
	if err := os.WriteFile(file, []byte(good+download), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := []run.ID{"reload0001", "reload0002"}
	for _, id := range ids {
		if err := r.sim.AddRun(id, simulator.App("app1"), simulator.Image("img1", 9000)); err != nil {
			t.Fatal(err)
		}
	}
	p := r.launch(r.withFile(file, "run")).ready()

	p.reload(file, good+"poll: {give_up_after: 1h}\napi: {rate: 3}\n", kept) // the section api stands there twice
	p.reload(file, good+"poll: {give_up_after: 1h, max_interval: 0}\n", kept)
	if said := r.log.String(); !strings.Contains(said, file+":3: poll.max_interval = 0 is out of range") {
		t.Errorf("the line is not named:\n%s", said)
	}
	if err := os.Truncate(keyFile, 0); err != nil {
		t.Fatal(err)
	}
	p.reload(file, good, kept)
	r.handIn(ids[:1])
	r.waitSettled(1, 30*time.Second) // with the key it had

	if err := os.WriteFile(keyFile, []byte(r.sim.Key()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reload(file, good+"poll: {give_up_after: 2h}\nbackup: {keep: 5}\n", taken)
	said := r.log.String()
	for _, want := range []string{`"changed":"poll.give_up_after"`, `these settings change at the next start only","keys":"download.allow_http, download.allow_networks, backup.keep"`} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s\n%s", want, said)
		}
	}
	r.handIn(ids[1:]) // its assets come by http from 127.0.0.1, which the start allowed
	r.waitSettled(2, 30*time.Second)
	if code := p.stop(); code != exitDone {
		t.Errorf("code %d\n%s", code, r.log)
	}
	r.judgeEnd(ids)
}
