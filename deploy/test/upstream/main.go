// Command upstream is the API and its CDN for the smoke tests of this directory: the
// simulator at fixed addresses of loopback, with runs of fixed names. It guarantees
// that smokequickN is completed at the first poll, and that smokeslowN's video takes so
// long that a daemon can be killed in the middle of it. It serves until SIGTERM.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// Where it listens: settings of the daemons that are tested name the first.
const (
	apiAddr = "127.0.0.1:7501"
	cdnAddr = "127.0.0.1:7502"
)

// runsOfEach is how many runs there are of each kind, numbered from 1.
const runsOfEach = 9

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: upstream KEY-FILE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, keyFile string) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	sim, err := simulator.Start(simulator.WithKey(strings.TrimSpace(string(key))), simulator.WithAddrs(apiAddr, cdnAddr))
	if err != nil {
		return err
	}
	defer sim.Close()
	// 4 MiB in 6.4 s on one connection.
	slow := simulator.Slow(64<<10, 100*time.Millisecond)
	for n := range runsOfEach {
		quick, late := run.ID(fmt.Sprintf("smokequick%d", n+1)), run.ID(fmt.Sprintf("smokeslow%d", n+1))
		err := sim.AddRun(quick, simulator.App("smoke"), simulator.Image("img1", 30_000), simulator.Image("img2", 90_000))
		if err == nil {
			err = sim.AddRun(late, simulator.App("smoke"), simulator.Video("vid1", 4<<20, slow), simulator.Image("img1", 30_000))
		}
		if err != nil {
			return fmt.Errorf("add the runs numbered %d: %w", n+1, err)
		}
	}
	<-ctx.Done()
	return nil
}
