package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/leash"
	"github.com/assetd/assetd/internal/run"
)

// Exit codes that say that the hook cannot work now, whatever it is told: sysexits.h, and a
// shell's for a program that it cannot run (POSIX, 2.8.2).
const (
	exitUnavailable = 69
	exitTempFail    = 75
	exitCannotRun   = 126
	exitNotFound    = 127
)

// command runs a program for each message. It gets no shell.
type command struct {
	argv []string
	env  []string
	tell run.Tell
	took time.Duration // how long it may take
}

func newCommand(argv []string, timeout time.Duration, d Deps) *command {
	return &command{argv: argv, env: inherited(d.Environ), tell: d.Tell, took: timeout}
}

func (c *command) name() string { return "hook.command " + filepath.Base(c.argv[0]) }

func (c *command) close() {}

// inherited is what a command gets of our own environment: what programs need to
// run at all, and no secret.
func inherited(environ []string) []string {
	var kept []string
	path := false
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "PATH":
			path = true
		case "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR":
		default:
			if !strings.HasPrefix(name, "LC_") {
				continue
			}
		}
		kept = append(kept, entry)
	}
	if !path {
		kept = append(kept, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return kept
}

// send runs the command with the message on its standard input. All it started ends with
// it. Exit code 0 says that it was taken.
func (c *command) send(ctx context.Context, m message) error {
	limited, cancel := context.WithTimeout(ctx, c.took)
	defer cancel()
	cmd, err := leash.Command(limited, c.argv)
	if err != nil {
		return err
	}
	out := newLines(func(line string) {
		c.tell(run.Event{Kind: Said, Run: m.Run, Note: line})
	})
	cmd.Env = append(append([]string{}, c.env...), m.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(m.body), out, out
	err = cmd.Run()
	out.close()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("killed at the stop: %w", ctx.Err())
	case limited.Err() != nil:
		return &refusal{own: true, err: fmt.Errorf("killed with all it had started after hook.timeout, %s", c.took)}
	}
	return failure(err)
}

// failure is the end of a command that was not told to end: the notice's own failure, but
// where the command could not be started or says that it cannot work now.
func failure(err error) error {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err
	}
	switch exit.ExitCode() {
	case exitUnavailable, exitTempFail, exitCannotRun, exitNotFound:
		return err
	}
	return &refusal{own: true, err: err}
}
