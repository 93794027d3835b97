// Command assetd brings what Magnific runs made to the studio's own storage,
// whole, before the URLs die. See the README.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/signals"
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
		getenv: os.LookupEnv, environ: os.Environ, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
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
