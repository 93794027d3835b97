package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// measurement is one line of the design's table, or several that are measured
// together.
type measurement struct {
	name    string
	work    string
	goal    goal
	each    time.Duration // the longest that a round may take
	world   *world        // what the simulator serves; nil: nothing
	measure func(ctx context.Context, b *bench) ([]row, error)
}

// limit bounds the whole measurement.
func (m measurement) limit(rounds int) time.Duration {
	return time.Minute + time.Duration(rounds)*m.each
}

// all lists the measurements in the order in which they are taken.
func all() []measurement {
	return []measurement{images(), videos(), large(), million(), intake(), idle(), scarce(started), scarce(cut)}
}

// choose returns the measurements with these names; all where there are none.
func choose(names []string) ([]measurement, error) {
	if len(names) == 0 {
		return all(), nil
	}
	var chosen []measurement
	for _, name := range names {
		m, err := find(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, m)
	}
	return chosen, nil
}

func find(name string) (measurement, error) {
	var known []string
	for _, m := range all() {
		if m.name == name {
			return m, nil
		}
		known = append(known, m.name)
	}
	return measurement{}, fmt.Errorf("there is no measurement %q; there are %s", name, strings.Join(known, ", "))
}

// bench is what the measurements share.
type bench struct {
	rounds   int
	dir      string // temporary; short, since it holds sockets
	assetd   string // the binary
	progress io.Writer
}

// newBench builds the daemon. Call close.
func newBench(ctx context.Context, rounds int, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	b := &bench{rounds: rounds, dir: dir, assetd: filepath.Join(dir, "assetd"), progress: progress}
	if err := b.goTool(ctx, "build", "-trimpath", "-o", b.assetd, module+"/cmd/assetd"); err != nil {
		b.close(false)
		return nil, err
	}
	return b, nil
}

const module = "github.com/assetd/assetd"

// goTool runs the go command, which must find this module.
func (b *bench) goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s(run it in a directory of assetd's source)", args[0], err, out)
	}
	return nil
}

func (b *bench) close(keep bool) {
	if keep {
		b.say("left: %s", b.dir)
		return
	}
	if err := os.RemoveAll(b.dir); err != nil {
		b.say("%v", err)
	}
}

// say tells a person how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// scratch is a new empty directory; the function removes it.
func (b *bench) scratch() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(b.dir, "")
	return dir, func() { _ = os.RemoveAll(dir) }, err // close looks again
}
