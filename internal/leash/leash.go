// Package leash runs a program and ends with it all that it started, however that was
// detached: in the background, in a session of its own (setsid), by a double fork, with an
// empty environment.
//
// Between this process and the program is another one, of the same executable, which is a
// child subreaper (PR_SET_CHILD_SUBREAPER(2const)): whatever the program starts is and stays
// below it. When the program has ended, when it is told to, and when the process that
// started it is gone, even by SIGKILL, it kills all that is below it and ends. A program of
// the same user can kill that process, as it can kill any other.
package leash

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Cmd is a program to be run on a leash. Stdin, Stdout, Stderr and Env may be set before Run;
// the others are the package's.
type Cmd struct {
	*exec.Cmd
	held *os.File // while it is open, the program may run
	pass *os.File // the other end, for the process between
}

// Command is the program argv[0], looked for as exec.LookPath does, with its arguments. It
// may run until ctx ends. The error is a program that cannot be run, or no descriptors.
func Command(ctx context.Context, argv []string) (*Cmd, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	pass, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &Cmd{Cmd: exec.CommandContext(ctx, "/proc/self/exe"), held: held, pass: pass}
	c.Args = append([]string{name, path}, argv...)
	c.ExtraFiles = []*os.File{pass}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's signals are not for it
	c.Cancel = held.Close
	c.WaitDelay = killFor + time.Second
	return c, nil
}

// Run runs the program. When it returns nothing that the program started is left, but for
// what cannot be killed. The error is an *exec.ExitError with the program's exit code, or
// 128 and the number of the signal that ended it; or another one where it was not started.
func (c *Cmd) Run() error {
	defer c.held.Close()
	err := c.Start()
	c.pass.Close()
	if err != nil {
		return err
	}
	if err := c.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) { // the program said 0
		return err
	}
	return nil
}
