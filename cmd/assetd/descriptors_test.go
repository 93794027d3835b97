package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// However many connections clients hold, at the address and at the socket, drop files are
// taken, runs polled and assets fetched, and the daemon says that it is well.
func TestCase_G1_ClientsCannotTakeTheDescriptorsOfTheStages(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	r := newRig(t, nil)
	address := freeAddr(t)
	r.settings = append(r.settings, "server.listen="+address)
	cmd := r.command("run")
	// The shell sets both limits: the Go runtime raises the lower one.
	cmd.Args = append([]string{"sh", "-c", `ulimit -n 1024; exec "$0" "$@"`}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	cmd.Path = "/bin/sh"
	p := r.launch(cmd).ready()
	ids := []run.ID{"held000001", "held000002", "held000003"}
	for _, id := range ids {
		if err := r.sim.AddRun(id, simulator.Image("img1", 30_000), simulator.Image("img2", 90_000)); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // it is opened while the daemon gets ready
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		pause(t, 5*time.Millisecond)
	}
	for network, n := range map[string]int{"tcp": 1200, "unix": 300} {
		to := address
		if network == "unix" {
			to = filepath.Join(r.dir, "state", "assetd.sock")
		}
		for range n {
			c, err := net.Dial(network, to)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
	}
	r.handIn(ids)
	r.waitSettled(len(ids), time.Minute)
	r.judgeFiles()
	if out, stderr, code := r.output("health", "--ready"); code != exitDone {
		t.Errorf("health: exit %d %s %s", code, out, stderr)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d\n%s", code, tail(r.log.String(), 2000))
	}
	if strings.Contains(r.log.String(), "too many open files") {
		t.Errorf("descriptors ran out:\n%s", tail(r.log.String(), 2000))
	}
}
