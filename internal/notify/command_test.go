package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// shell is a command of a real shell that gets the script as its first argument.
func shell(t *testing.T, script string, told *events) *command {
	t.Helper()
	d := deps(newBox(), told)
	d.Environ = append(os.Environ(), "MAGNIFIC_API_KEY=plantedsecret")
	return newCommand([]string{"/bin/sh", "-c", script}, time.Minute, d)
}

func said(told *events) string {
	var all []string
	for _, e := range told.of(Said) {
		all = append(all, e.Note)
	}
	return strings.Join(all, "\n")
}

func TestACommandGetsEnvironmentAndJSONAndItsOutputIsSaid(t *testing.T) {
	dir := t.TempDir()
	told := &events{}
	c := shell(t, `env >`+dir+`/env; cat >`+dir+`/in; echo out; echo "to https://x.example/?token=plantedsecret" >&2; printf half`, told)
	m := composed(t, run.Notice{Kind: run.RunStored, At: noon(), Run: "abcd", Dir: "app/abcd"}, run.Run{})
	if err := c.send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	in, _ := os.ReadFile(filepath.Join(dir, "in"))
	if string(in) != string(m.body) || !strings.Contains(string(env), "ASSETD_EVENT=run.stored\n") || strings.Contains(string(env), "plantedsecret") {
		t.Errorf("%s\n%s", env, in)
	}
	if got := said(told); got != "out\nto https://x.example/\nhalf" {
		t.Errorf("said %q", got)
	}
	if e := told.of(Said)[0]; e.Run != "abcd" {
		t.Errorf("%+v", e)
	}
}

func TestAnExitCodeIsAFailureAndAMissingProgramToo(t *testing.T) {
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	if err := shell(t, "exit 3", &events{}).send(t.Context(), m); err == nil || err.Error() != "exit status 3" {
		t.Errorf("%v", err)
	}
	if err := newCommand([]string{"/no/such/program"}, time.Minute, deps(newBox(), &events{})).send(t.Context(), m); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("%v", err)
	}
}

// A hook that does not read what it is given, or says more than anybody reads, ends
// all the same.
func TestACommandNeitherHasToReadNorMaySayWithoutEnd(t *testing.T) {
	told := &events{}
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	m.body = make([]byte, 1<<20)
	if err := shell(t, `i=0; while [ $i -lt 200 ]; do echo "line $i"; i=$((i+1)); done; head -c 3000000 /dev/zero`, told).send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(said(told), "\n")
	if len(lines) != mostLines+1 || lines[0] != "line 0" || !strings.HasSuffix(lines[mostLines], "bytes more, left out") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func pidOf(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits until a process that was killed has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		if !alive(pid) {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("process %d is there still", pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// Whatever a hook started goes with it: after the time limit, at a stop, and when
// it ends itself and leaves something running.
func TestWhatAHookStartedEndsWithIt(t *testing.T) {
	m := composed(t, run.Notice{Kind: run.VolumeGone}, run.Run{})
	stopped, stop := context.WithCancel(t.Context())
	defer stop()
	for name, c := range map[string]struct {
		script string
		ctx    context.Context
		limit  time.Duration
		judge  func(error) bool
	}{
		"limit": {"sleep 600 & echo $! >$FILE.tmp; mv $FILE.tmp $FILE; wait", t.Context(), 700 * time.Millisecond, func(err error) bool {
			return err != nil && strings.HasPrefix(err.Error(), "killed with all it had started")
		}},
		"stop": {"sleep 600 & echo $! >$FILE.tmp; mv $FILE.tmp $FILE; wait", stopped, time.Minute, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"left": {"sleep 600 & echo $! >$FILE.tmp; mv $FILE.tmp $FILE", t.Context(), time.Minute, func(err error) bool { return err == nil }},
	} {
		file := filepath.Join(t.TempDir(), "pid")
		told := &events{}
		hook := shell(t, "FILE="+file+"; "+c.script, told)
		hook.took = c.limit
		ended := make(chan error, 1)
		go func() { ended <- hook.send(c.ctx, m) }()
		if name == "stop" {
			for range 1000 {
				if _, err := os.Stat(file); err == nil {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			stop()
		}
		if err := <-ended; !c.judge(err) {
			t.Errorf("%s: %v", name, err)
		}
		gone(t, pidOf(t, file))
	}
}
