package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// asNobody has a command run by a user without rights, with the rig's directory as its own;
// where the tests have no rights themselves, as their user.
func (r *rig) asNobody(cmd *exec.Cmd) {
	r.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	binary, err := os.ReadFile(cmd.Path)
	if err != nil {
		r.t.Fatal(err)
	}
	bin := shortDir(r.t)
	cmd.Path = filepath.Join(bin, "assetd") // where that user reaches it
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for _, dir := range []string{bin, r.dir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.Chown(r.dir, 65534, 65534); err != nil {
		r.t.Fatal(err)
	}
	cmd.Dir = bin
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// A hook is a program of the daemon's user: it may look at every process of that user.
func TestCase_G8_AHookCannotReadTheKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	out := filepath.Join(r.dir, "seen")
	// Each process's environment, memory map and open files, as far as they can be read; then
	// the parents up to the first process.
	hook := filepath.Join(r.dir, "hook")
	text := "#!/bin/sh\nexec 2>/dev/null\n(env\nfor p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; ls -l $p/fd/ $p/exe; done\n" +
		"p=$PPID; while [ $p -gt 1 ]; do echo parent $p; cat /proc/$p/environ; ls /proc/$p/fd | sed \"s/^/fd of $p: /\"; p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status); done\n" +
		") >" + out + ".tmp; mv " + out + ".tmp " + out + "\n"
	if err := os.WriteFile(hook, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	r.settings = append(r.settings, "hook.command="+hook)
	cmd := r.command("run")
	cmd.Env = append(cmd.Env, "MAGNIFIC_API_KEY="+r.sim.Key())
	r.asNobody(cmd)
	p := r.launch(cmd).ready()
	if err := r.sim.AddRun("private01"); err != nil {
		t.Fatal(err)
	}
	r.handIn([]run.ID{"private01"})
	r.waitSettled(1, time.Minute)
	seen := waitFile(t, out, 1)
	daemon := strconv.Itoa(p.cmd.Process.Pid)
	if strings.Contains(seen, r.sim.Key()) || strings.Contains(seen, "fd of "+daemon+":") {
		t.Errorf("a hook reads the daemon's key or open files:\n%s", tail(seen, 2000))
	}
	if !strings.Contains(seen, "parent "+daemon+"\n") || !strings.Contains(seen, "ASSETD_EVENT=") {
		t.Errorf("the hook did not look at the daemon, process %s:\n%s", daemon, tail(seen, 2000))
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d\n%s", code, tail(r.log.String(), 2000))
	}
}
