// Package main is `go run ./internal/bench`: it measures what the design promises
// of speed, memory and lateness, side by side with what people use instead.
//
//	go run ./internal/bench                 all measurements
//	go run ./internal/bench -list           their names
//	go run ./internal/bench -rounds 7 images videos
//	go run ./internal/bench -hold -json FILE
//
// It guarantees that all contenders do the same work against the same server, in
// rounds of alternating order; that the server is a process of its own; that assetd
// is the real binary, driven as its users do, with drop files and settings; that
// what a contender stored is hashed before its time counts; and that a peer which is
// not installed, or failed, is named as such. It leaves to others to keep the machine
// quiet meanwhile: all figures are those of the machine, its disk ($TMPDIR) and its
// load.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // something could not be measured, or -hold and a goal was missed
	exitUsage  = 2
)

func main() {
	// The simulator's process: see startServer.
	if len(os.Args) == 3 && os.Args[1] == serveArgument {
		if err := serve(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "simulator:", err)
			os.Exit(exitFailed)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line's.
type options struct {
	list, hold, keep bool
	rounds           int
	json             string
	names            []string
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.list, "list", false, "print the names of the measurements, and end")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each contender does the work")
	flags.StringVar(&o.json, "json", "", "write the results to this `file`, too")
	flags.BoolVar(&o.hold, "hold", false, "end with 1 where a goal is missed")
	flags.BoolVar(&o.keep, "keep", false, "leave the temporary directory with all that was stored, and the daemon's logs")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds %d: at least 1", o.rounds)
	}
	o.names = flags.Args()
	return o, nil
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	chosen, err := choose(o.names)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(stdout, "%-8s %s\n", m.name, m.work)
		}
		return exitDone
	}
	q := newQuiet()
	rows, err := measureAll(ctx, o, chosen, stderr)
	if err == nil {
		err = report(o, q.describe(), rows, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return verdict(rows, o.hold)
}

// measureAll takes the measurements one after another. A measurement that fails
// is a row that says so; the others go on.
func measureAll(ctx context.Context, o options, chosen []measurement, progress io.Writer) ([]row, error) {
	b, err := newBench(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var rows []row
	for _, m := range chosen {
		b.say("%s: %s", m.name, m.work)
		within, cancel := context.WithTimeoutCause(ctx, m.limit(o.rounds), fmt.Errorf("not done within %v", m.limit(o.rounds)))
		found, err := m.measure(within, b)
		cancel()
		if err != nil {
			b.say("%s: %v", m.name, err)
			found = append(found, row{Name: m.name, Work: m.work, Goal: m.goal, Verdict: failed, Note: err.Error()})
		}
		rows = append(rows, found...)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
	}
	return rows, nil
}

func report(o options, machine string, rows []row, stdout io.Writer) error {
	if err := printTables(stdout, machine, rows); err != nil {
		return err
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(document{machine, o.rounds, rows}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

// verdict is the exit code: a row that could not be measured never passes.
func verdict(rows []row, hold bool) int {
	for _, r := range rows {
		if r.Verdict == failed || hold && r.Verdict != met {
			return exitFailed
		}
	}
	return exitDone
}
