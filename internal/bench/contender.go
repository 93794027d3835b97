package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// outcome is what one contender made of one round.
type outcome struct {
	took  time.Duration
	sync  time.Duration // of it, what the disk took after a peer had ended
	peak  int64         // bytes resident, of the whole process
	cpu   time.Duration // of the whole process, user and system
	files string        // the folder with what it stored
	begun time.Time     // when it could have begun to fetch
}

// contender fetches all that a server has into an empty directory.
type contender struct {
	name    string
	program string // that must be installed
	fetch   func(ctx context.Context, b *bench, dir string, s *server) (outcome, error)
}

func (c contender) installed() bool {
	_, err := exec.LookPath(c.program)
	return c.program == "" || err == nil
}

// ours is assetd with these settings, from drop to the last manifest. What has its
// manifest is on the disk.
func ours(settings ...string) contender {
	return contender{name: "assetd", fetch: func(ctx context.Context, b *bench, dir string, s *server) (o outcome, err error) {
		d, err := b.startDaemon(ctx, dir, s, settings...)
		if err != nil {
			return o, err
		}
		defer func() {
			err = errors.Join(err, d.stop())
			o.cpu = usage(d.cmd.ProcessState)
		}()
		begin := time.Now()
		if err := d.drop("runs.txt", s.Runs...); err != nil {
			return o, err
		}
		if err := d.settled(ctx, s.Runs); err != nil {
			return o, err
		}
		o.took, o.files = time.Since(begin), d.storage()
		if o.peak, err = memory(d.cmd.Process.Pid, peakResident); err != nil {
			return o, err
		}
		p, err := s.polls()
		o.begun = p.First
		return o, err
	}}
}

// curl fetches so many URLs at a time with one curl.
func curl(parallel int) contender {
	return peer("curl", func(dir string, assets []asset) []string {
		var list strings.Builder
		for i, a := range assets {
			fmt.Fprintf(&list, "url = %q\noutput = %q\n", a.URL, filepath.Join(dir, fileName(i)))
		}
		// -q: without the .curlrc of whoever runs this.
		return []string{list.String(), "-q", "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", fmt.Sprint(parallel), "-K"}
	})
}

// aria2c fetches with these options, and with those that make it quiet and, of
// the ways to make room for a file, take the quickest.
func aria2c(options ...string) contender {
	return peer("aria2c", func(dir string, assets []asset) []string {
		var list strings.Builder
		for i, a := range assets {
			fmt.Fprintf(&list, "%s\n out=%s\n", a.URL, fileName(i))
		}
		args := []string{list.String(), "--no-conf", "-q", "--file-allocation=none", "-d", dir}
		return append(append(args, options...), "-i")
	})
}

func fileName(i int) string { return fmt.Sprintf("file%05d", i) }

// peer is a program that fetches a list of URLs. command gives the list's content
// and the arguments, to which the list's name is added. Its time begins with the
// program and ends when the disk has what it wrote.
func peer(program string, command func(dir string, assets []asset) []string) contender {
	return contender{name: program, program: program, fetch: func(ctx context.Context, b *bench, dir string, s *server) (o outcome, err error) {
		assets, err := s.assets()
		if err != nil {
			return o, err
		}
		list, o := filepath.Join(dir, "list"), outcome{files: filepath.Join(dir, "files")}
		args := command(o.files, assets)
		if err := errors.Join(os.Mkdir(o.files, 0o700), os.WriteFile(list, []byte(args[0]), 0o600)); err != nil {
			return o, err
		}
		cmd := exec.CommandContext(ctx, program, append(args[1:], list)...)
		cmd.Env = plainEnviron()
		o.begun = time.Now()
		if err := cmd.Start(); err != nil {
			return o, err
		}
		stop := watch(cmd.Process.Pid, peakResident)
		err = cmd.Wait()
		o.peak = stop()
		ended := time.Now()
		if err := syncDisk(ctx, o.files); err != nil {
			return o, err
		}
		o.took, o.sync = time.Since(o.begun), time.Since(ended)
		o.cpu = usage(cmd.ProcessState)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
			err = nil // what it has saved tells
		}
		return o, errors.Join(err, context.Cause(ctx))
	}}
}
