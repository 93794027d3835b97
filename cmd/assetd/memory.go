package main

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// boundMemory makes the garbage collector work harder as the memory limit of the container or
// of the control group comes near: otherwise the kernel may kill the daemon during a run of
// many thousand assets while half of its memory is garbage. A GOMEMLIMIT in the environment
// takes precedence.
func boundMemory(getenv func(string) (string, bool)) {
	if _, set := getenv("GOMEMLIMIT"); set {
		return
	}
	if limit := grantedMemory("/"); limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 4 * 3) // the rest is the kernel's: sockets, the queue's pages
	}
}

// grantedMemory returns the least limit of this process's control groups in bytes, or
// math.MaxInt64 if there is none. root is "/". See cgroups(7) and, in the
// kernel's documentation, cgroup-v1/memory and cgroup-v2.
func grantedMemory(root string) int64 {
	least := int64(math.MaxInt64)
	data, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		below, file := "sys/fs/cgroup", "memory.max"
		switch {
		case fields[1] == "": // version 2
		case strings.Contains(","+fields[1]+",", ",memory,"):
			below, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// A group has no more than those above it. In a container the path may be the
		// host's, which does not exist there: its own group is then the top.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			text, err := os.ReadFile(filepath.Join(root, below, group, file))
			if limit, e := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && e == nil && limit > 0 {
				least = min(least, limit)
			}
			if group == "/" {
				break
			}
		}
	}
	if least > math.MaxInt64/2 { // what version 1 has if there is no limit
		return math.MaxInt64
	}
	return least
}
