package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// figures is what a Go benchmark of a package measures that nobody else can call:
// one row a metric (testing.B.ReportMetric).
type figures struct {
	name, work     string
	pkg, benchmark string // the package is given below the module
	each           time.Duration
	rows           []figure
}

type figure struct {
	metric, work string
	goal         goal
}

func (f figures) measurement() measurement {
	return measurement{name: f.name, work: f.work, goal: f.rows[0].goal, each: f.each, measure: f.measure}
}

func (f figures) measure(ctx context.Context, b *bench) ([]row, error) {
	measured, err := b.benchmark(ctx, f.pkg, f.benchmark)
	if err != nil {
		return nil, err
	}
	var all []row
	for _, r := range f.rows {
		values := measured[r.metric]
		if len(values) != b.rounds {
			return nil, fmt.Errorf("%s gave %d values of %s in %d rounds", f.benchmark, len(values), r.metric, b.rounds)
		}
		all = append(all, rowOf(f.name, r.work, r.goal, values))
	}
	return all, nil
}

// benchmark runs a benchmark of a package once a round, each time in a process of
// its own, and returns the values of its metrics.
func (b *bench) benchmark(ctx context.Context, pkg, name string) (map[string][]float64, error) {
	dir, leave, err := b.scratch()
	if err != nil {
		return nil, err
	}
	defer leave()
	binary := filepath.Join(dir, "test")
	if err := b.goTool(ctx, "test", "-c", "-o", binary, module+"/"+pkg); err != nil {
		return nil, err
	}
	all := map[string][]float64{}
	for n := range b.rounds {
		if err := syncDisk(ctx, dir); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=^"+name+"$", "-test.benchtime=1x")
		cmd.Dir, cmd.Env = dir, append(plainEnviron(), "TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", name, errors.Join(err, context.Cause(ctx)), out)
		}
		found := metrics(out, name)
		b.say("  round %d  %v", n+1, found)
		for unit, value := range found {
			all[unit] = append(all[unit], value)
		}
	}
	return all, nil
}

// metrics reads the values by unit from a benchmark's line, in the format of the
// testing package: its name, the count, then values and units by turns.
func metrics(out []byte, name string) map[string]float64 {
	found := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[0] != name && !strings.HasPrefix(fields[0], name+"-") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				found[fields[i+1]] = value
			}
		}
	}
	return found
}
