// Command assetd downloads what Magnific runs produce to the user's own storage,
// complete and verified, before the signed URLs expire. See README.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/signals"
	_ "github.com/assetd/assetd/internal/undumpable" // nobody reads the key in /proc/PID/environ
)

func main() {
	os.Exit(start())
}

// oneSignal is how long signals that come together count as one: the death of the
// demo reaches its daemon once for each of its threads (prctl(2), PR_SET_PDEATHSIG).
const oneSignal = 100 * time.Millisecond

// start runs the command line under signals: the first SIGINT or SIGTERM asks to
// stop, a second one ends the process at once.
func start() int {
	// A reader of our output that went away must not kill a daemon in mid-write.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := signals.Stop()
	go func() {
		sig := <-stop
		cancel(interrupted{sig})
		time.Sleep(oneSignal)
		for len(stop) > 0 {
			<-stop
		}
		<-stop
		os.Exit(exitInterrupted)
	}()
	return execute(ctx, os.Args[1:], system{
		getenv: os.LookupEnv, environ: takeEnviron(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
}

// takeEnviron returns the environment as it was at the start, and takes the API key out of
// the process's own: no program that is run by accident with all of it gets the key.
func takeEnviron() func() []string {
	environ := os.Environ()
	for _, name := range config.KeyVariables() {
		os.Unsetenv(name) //nolint:errcheck // it is a name
	}
	return func() []string { return slices.Clone(environ) }
}

// system is what a command touches of the process it runs in.
type system struct {
	getenv         func(string) (string, bool)
	environ        func() []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ sig os.Signal }

func (i interrupted) Error() string { return i.sig.String() }
