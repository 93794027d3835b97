package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
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
	return []measurement{images(), videos(), large(), million(), intake(), idle(), lateness(), scarce(started), scarce(cut)}
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
	keep     bool   // what was made
	dir      string // temporary; short, since it holds sockets
	assetd   string // the binary
	progress io.Writer
}

// newBench builds the daemon. Call close.
func newBench(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	b := &bench{rounds: o.rounds, keep: o.keep, dir: dir, assetd: filepath.Join(dir, "assetd"), progress: progress}
	if err := b.goTool(ctx, "build", "-trimpath", "-o", b.assetd, module+"/cmd/assetd"); err != nil {
		b.close()
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

func (b *bench) close() {
	if b.keep {
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

// scratch is a new empty directory. leave gives its room back, but lets the names
// be until close: for a minute ext4 passes over inodes that were deleted one by one
// (recently_deleted in fs/ext4/ialloc.c), which whoever made files next would pay.
func (b *bench) scratch() (dir string, leave func(), err error) {
	dir, err = os.MkdirTemp(b.dir, "")
	return dir, func() { b.empty(dir) }, err
}

func (b *bench) empty(dir string) {
	if b.keep {
		return
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return os.Truncate(path, 0)
	})
	if err != nil {
		b.say("empty %s: %v", dir, err)
	}
}
