package leash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asParent has the test binary run a program on a leash and nothing else: see
// TestCase_G7_AKilledParentTakesAllWithIt.
const asParent = "LEASH_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if script := os.Getenv(asParent); script != "" {
		c, err := Command(context.Background(), []string{"/bin/sh", "-c", script})
		if err == nil {
			err = c.Run()
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// ways are the ways to get away; each script leaves a process that runs $LONG.
var ways = map[string]string{
	"in the background":            `sh -c "$LONG" &`,
	"nohup":                        `nohup sh -c "$LONG" >/dev/null 2>&1 &`,
	"a session of its own":         `setsid sh -c "$LONG" &`,
	"a double fork":                `(sh -c "$LONG" & )`,
	"a double fork and a session":  `(setsid sh -c "$LONG" </dev/null >/dev/null 2>&1 & )`,
	"a triple fork with sessions":  `setsid sh -c 'setsid sh -c "setsid sh -c \"$LONG\" &" &' &`,
	"an empty environment":         `(exec setsid env -i sh -c "$LONG" & )`,
	"signals that it ignores":      `setsid sh -c "trap '' TERM HUP INT; $LONG" &`,
	"it goes on starting others":   `setsid sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); sleep 0.01; done' & setsid sh -c "$LONG" &`,
	"its output stays open":        `setsid sh -c "$LONG" 0<&0 1>&1 2>&2 &`,
	"all descriptors of it closed": `setsid sh -c "exec 0<&- 1>&- 2>&- 3<&-; $LONG" &`,
}

// pidIn reads a PID once it is there.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	for range 1000 {
		if text, err := os.ReadFile(file); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				return pid
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("%s was not written", file)
	return 0
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" Z"))
}

// gone waits for the end of a process.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	for range 600 {
		if !alive(pid) {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Errorf("%s: process %d has survived", what, pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// daemonized is a program that detaches itself that way and then ends, or waits for ever.
func daemonized(t *testing.T, way string, forEver bool) (argv []string, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "pid")
	long := filepath.Join(dir, "long")
	text := "echo $$ >" + file + ".tmp\nmv " + file + ".tmp " + file + "\nwhile :; do sleep 1; done\n"
	if err := os.WriteFile(long, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	after := "; while [ ! -s " + file + " ]; do sleep 0.01; done"
	if forEver {
		after += "; sleep 600"
	}
	return []string{"/bin/sh", "-c", strings.ReplaceAll(way, "$LONG", ". "+long) + "\n:" + after}, file
}

func TestCase_G7_WhatAProgramStartedEndsWithIt(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			argv, file := daemonized(t, way, false)
			c, err := Command(t.Context(), argv)
			if err != nil {
				t.Fatal(err)
			}
			c.Stdout, c.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
			if err := c.Run(); err != nil {
				t.Errorf("%v\n%s", err, c.Stderr)
			}
			if pid := pidIn(t, file); alive(pid) {
				t.Errorf("process %d has survived", pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

func TestCase_G7_WhatAProgramStartedEndsWithItsTime(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			argv, file := daemonized(t, way, true)
			c, err := Command(ctx, argv)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Run() }()
			pid := pidIn(t, file)
			cancel()
			if err := <-ended; err == nil {
				t.Error("no error")
			}
			if alive(pid) {
				t.Errorf("process %d has survived", pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

// Also where the parent has no time to do anything.
func TestCase_G7_AKilledParentTakesAllWithIt(t *testing.T) {
	argv, file := daemonized(t, ways["a double fork and a session"], true)
	parent := exec.Command("/proc/self/exe", "-test.run=^$")
	parent.Env = append(os.Environ(), asParent+"="+argv[2])
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, file)
	if !alive(pid) {
		t.Fatal("it has ended too early")
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	gone(t, "the parent is killed", pid)
}

// What another program started goes on.
func TestCase_G7_ProgramsDoNotEndEachOther(t *testing.T) {
	long, file := daemonized(t, ways["a double fork and a session"], true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := Command(ctx, long)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run() }()
	pid := pidIn(t, file)
	other, err := Command(t.Context(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(); err != nil || !alive(pid) {
		t.Errorf("%v, alive %v", err, alive(pid))
	}
	cancel()
	<-ended
	gone(t, "then", pid)
}

func TestRun_GivesTheProgramsExitCodeAndStreams(t *testing.T) {
	for code, text := range map[int]string{0: "exit 0", 7: "exit 7", 255: "exit 255", 137: "kill -KILL $$", 143: "kill -TERM $$"} {
		c, err := Command(t.Context(), []string{"sh", "-c", "cat; echo $0 $VALUE >&2; " + text, "an argument"})
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr, c.Env = strings.NewReader("input"), &out, &errs, []string{"VALUE=v", "PATH=" + os.Getenv("PATH")}
		err = c.Run()
		exit := (*exec.ExitError)(nil)
		if got := 0; errors.As(err, &exit) {
			if got = exit.ExitCode(); got != code {
				t.Errorf("%s: exit %d", text, got)
			}
		} else if code != 0 || err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if out.String() != "input" || errs.String() != "an argument v\n" {
			t.Errorf("%s: %q %q", text, &out, &errs)
		}
	}
	if _, err := Command(t.Context(), []string{"no-such-program"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v", err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/shell\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := Command(t.Context(), []string{script})
	if err != nil {
		t.Fatal(err)
	}
	var says bytes.Buffer
	c.Stderr = &says
	exit := (*exec.ExitError)(nil)
	if err := c.Run(); !errors.As(err, &exit) || exit.ExitCode() != notFound || !strings.Contains(says.String(), script) {
		t.Errorf("%v, %s", err, &says)
	}
}
