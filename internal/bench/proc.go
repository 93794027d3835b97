package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// lookEvery is how often the memory of a process is read.
const lookEvery = 10 * time.Millisecond

// Fields of /proc/<pid>/status. The kernel keeps the first, so that of a process that
// may end at any moment only what grows in its last moment is missed. It is not taken
// from wait4: there it is never less than what this process had when it started the
// other.
const (
	peakResident = "VmHWM"
	anonymous    = "RssAnon" // at this moment
)

// memory is a field of a process's status, in bytes.
func memory(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return statusField(text, field)
}

// statusField reads a size from /proc/<pid>/status (proc_pid_status(5)), in bytes.
func statusField(status []byte, name string) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), name+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("no %s in its status", name)
}

// watch follows a field of a process's status until stop is called, which returns
// the most there was, in bytes; 0 where it could never be read.
func watch(pid int, field string) (stop func() int64) {
	done, ended := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		var most int64
		for {
			if now, err := memory(pid, field); err == nil {
				most = max(most, now)
			}
			select {
			case <-tick.C:
			case <-done:
				ended <- most
				return
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-ended
	}
}

// usage is the processor time of a process that has ended.
func usage(p *os.ProcessState) time.Duration { return p.UserTime() + p.SystemTime() }

// cpuTime is the processor time that a process has used so far, in steps of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return statTime(string(text))
}

// tick is the unit of /proc/<pid>/stat: USER_HZ, which is 100 on every Linux.
const tick = 10 * time.Millisecond

// statTime reads utime and stime from /proc/<pid>/stat (proc_pid_stat(5)).
func statTime(stat string) (time.Duration, error) {
	_, after, ok := strings.Cut(stat[max(strings.LastIndexByte(stat, ')'), 0):], ") ") // the name may hold anything
	fields := strings.Fields(after)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("unreadable stat %q", stat)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// syncDisk waits until what was written to the file system of dir is on its disk.
func syncDisk(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, "sync", "-f", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("sync -f %s: %w: %s", dir, err, out)
	}
	return nil
}

// plainEnviron is the environment without what would change a contender: proxies,
// and settings of assetd.
func plainEnviron() []string {
	var plain []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasSuffix(strings.ToLower(name), "_proxy") && !strings.HasPrefix(name, "ASSETD_") &&
			!strings.HasPrefix(name, "MAGNIFIC_") && name != "NOTIFY_SOCKET" {
			plain = append(plain, v)
		}
	}
	return plain
}
