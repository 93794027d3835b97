package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// quiet tells how much of the machine others took since it was made: figures from
// a busy one say little.
type quiet struct {
	begin     time.Time
	all, ours time.Duration
}

func newQuiet() quiet { return quiet{time.Now(), busyTime(), ourTime()} }

// others is the share of all processors, 0 to 1, that neither this process nor any
// that it started and waited for took; what the kernel does for them counts here.
func (q quiet) others() float64 {
	took := time.Duration(runtime.NumCPU()) * time.Since(q.begin)
	return max(0, (busyTime()-q.all-(ourTime()-q.ours)).Seconds()/took.Seconds())
}

// describe names the machine, and how quiet it was.
func (q quiet) describe() string {
	return fmt.Sprintf("%s/%s, %d CPUs%s, %s; others took %.0f %% of the CPUs meanwhile",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), runtime.Version(), 100*q.others())
}

// busyTime is how long the machine's processors were not idle, all together; 0
// where it cannot be read.
func busyTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	return statBusy(string(text))
}

// statBusy reads the first line of /proc/stat (proc_stat(5)): user, nice, system,
// idle, iowait, irq, softirq, steal.
func statBusy(stat string) (busy time.Duration) {
	line, _, _ := strings.Cut(stat, "\n")
	for i, field := range strings.Fields(line) {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err == nil && i <= 8 && i != 4 && i != 5 {
			busy += time.Duration(ticks) * tick
		}
	}
	return busy
}

// ourTime is the processor time of this process and of those it waited for.
func ourTime() (total time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}

// processor names processor and kernel, as far as they can be read.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	name := ""
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			name = " (" + strings.TrimSpace(value) + ")"
			break
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		name += ", kernel " + strings.TrimSpace(string(release))
	}
	return name
}
