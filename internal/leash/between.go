package leash

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// name is what the process between is called. Whoever is called so does its work and
// nothing else: see init.
const name = "assetd-hook"

// killFor is how long it tries to kill what the program left, and killPause how long it
// waits between two looks.
const (
	killFor   = 2 * time.Second
	killPause = 2 * time.Millisecond
)

// The exit codes of a shell for a program that it cannot run (POSIX, 2.8.2), and what it
// adds to a signal's number.
const (
	cannotRun = 126
	notFound  = 127
	bySignal  = 128
)

// setSubreaper is PR_SET_CHILD_SUBREAPER, which syscall does not have.
const setSubreaper = 36

// held is the descriptor that says by its end that all has to end.
const held = 3

// init is before main, and before most of the program is initialized: the process between
// needs nothing of it.
func init() {
	if len(os.Args) > 2 && os.Args[0] == name {
		os.Exit(between(os.Args[1], os.Args[2:]))
	}
}

// between runs a program, ends all it started and returns its exit code.
func between(path string, argv []string) int {
	syscall.CloseOnExec(held)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setSubreaper, 1, 0); errno != 0 {
		fmt.Fprintf(os.Stderr, "%s: PR_SET_CHILD_SUBREAPER: %v\n", path, errno)
		return cannotRun
	}
	p, err := os.StartProcess(path, argv, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if os.IsNotExist(err) {
			return notFound
		}
		return cannotRun
	}
	leader, told := p.Pid, make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		_, _ = syscall.Read(held, make([]byte, 1)) // until the other end is closed
		told <- syscall.SIGTERM
	}()
	go func() {
		<-told
		kill(descendants())
		time.Sleep(killFor)
		os.Exit(bySignal + int(syscall.SIGKILL)) // something does not die
	}()
	code := reap(leader)
	for end := time.Now().Add(killFor); time.Now().Before(end); {
		kill(descendants())
		if none := drain(); none {
			break
		}
		time.Sleep(killPause)
	}
	return code
}

// reap waits for the leader, and for what else ends until then, and returns its exit code.
func reap(leader int) int {
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR: //nolint:errorlint // a system call's own
		case err != nil:
			return cannotRun
		case pid == leader && status.Exited():
			return status.ExitStatus()
		case pid == leader && status.Signaled():
			return bySignal + int(status.Signal())
		}
	}
}

// drain takes what has ended and reports whether nothing is left.
func drain() bool {
	for {
		switch pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); {
		case err == syscall.EINTR: //nolint:errorlint // as above
		case err != nil:
			return true
		case pid == 0:
			return false
		}
	}
}

func kill(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}

// descendants are all processes below this one.
func descendants() (found []int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	children := map[int][]int{}
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			if parent := parentOf(pid); parent > 0 {
				children[parent] = append(children[parent], pid)
			}
		}
	}
	for next := children[os.Getpid()]; len(next) > 0; {
		pid := next[0]
		found = append(found, pid)
		next = append(next[1:], children[pid]...)
	}
	return found
}

// parentOf reads a process's parent (proc_pid_stat(5)); 0 where it is not there. The
// program's name before it may hold anything.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
