// Package signals receives SIGINT, SIGTERM and SIGHUP from the first moment on that a
// Go program can: it imports nothing but os/signal, and its path sorts before those of
// all dependencies, so the runtime initializes it milliseconds before the rest of the
// program (Go specification, "Program initialization"). A service manager that stops a
// daemon it has just started would end it by the signal otherwise.
//
// Before the runtime has installed its handlers, some tenths of a millisecond after
// exec(2), only the parent process can hold signals back.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

var (
	stop   = make(chan os.Signal, 2)
	hangup = make(chan os.Signal, 1)
)

func init() {
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(hangup, syscall.SIGHUP)
}

// Stop delivers SIGINT and SIGTERM, those included that came before main began. Up to
// two wait in it.
func Stop() <-chan os.Signal { return stop }

// Hangup delivers SIGHUP, one that came before main began included.
func Hangup() <-chan os.Signal { return hangup }

// DefaultHangup gives SIGHUP its default action again, which ends the process, also for
// one that has come already. A process that was started with SIGHUP ignored, as nohup(1)
// does it, goes on ignoring it.
func DefaultHangup() {
	signal.Stop(hangup)
	select {
	case sig := <-hangup:
		if s, ok := sig.(syscall.Signal); ok {
			_ = syscall.Kill(os.Getpid(), s)
		}
	default:
	}
}
