package main

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"
)

// A signal that comes while the program's packages are still initialized is sent here
// right after the runtime reports one of them (GODEBUG=inittrace=1), so nothing depends
// on how fast the machine is.
func TestCase_G11_SignalsDuringTheStartCountAsAtAnyOtherTime(t *testing.T) {
	t.Parallel()
	for _, after := range []string{
		"github.com/assetd/assetd/internal/signals", // the first after the runtime's own
		"google.golang.org/protobuf/proto",
		"go.etcd.io/bbolt",
		"github.com/prometheus/client_golang/prometheus",
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			t.Run(sig.String()+" after "+after, func(t *testing.T) {
				t.Parallel()
				if code := signalled(t, after, sig); code != exitDone {
					t.Errorf("exit code %d, want %d", code, exitDone)
				}
			})
		}
	}
}

// signalled starts a daemon, sends it the signal once the package is initialized, and
// returns its exit code. After a SIGHUP it goes on until it is ready and gets a SIGTERM.
func signalled(t *testing.T, after string, sig syscall.Signal) int {
	t.Helper()
	r := newRig(t, []string{"shutdown_grace=1s"})
	cmd := r.command("run")
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent, lines := false, bufio.NewScanner(stderr)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "init "+after+" @"):
			sent = true
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		case sig == syscall.SIGHUP && strings.Contains(line, "assetd is ready"):
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !sent {
		t.Fatalf("the runtime did not report that %s was initialized", after)
	}
	_, _ = io.Copy(io.Discard, stderr)
	_ = cmd.Wait() // the code is what counts
	return cmd.ProcessState.ExitCode()
}
