package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// daemon is assetd at work in a directory of its own.
type daemon struct {
	b     *bench
	dir   string
	cmd   *exec.Cmd
	ended chan error
}

// settings are those in which every daemon here differs from a new installation:
// it talks to loopback, the API's budget is not what is measured, and drop files are
// renamed into their place whole, so that there is nothing to wait for.
func settings(dir string, s *server) []string {
	return []string{
		"data_dir=" + dir, "api.base_url=" + s.API, "api.rate=100000", "api.burst=100000", "server.listen=", "log.format=json",
		"download.allow_http=true", "download.allow_networks=127.0.0.0/8", "storage.min_free=0B", "storage.run_dir={run_id}",
		"drop.settle=100ms",
	}
}

// startDaemon starts assetd below dir with these settings besides, and waits until
// it is ready. Stop it.
func (b *bench) startDaemon(ctx context.Context, dir string, s *server, more ...string) (*daemon, error) {
	log, err := os.Create(filepath.Join(dir, "assetd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := []string{"--config", os.DevNull}
	for _, setting := range append(settings(dir, s), more...) {
		args = append(args, "--set", setting)
	}
	environ := append(plainEnviron(), "ASSETD_API_KEY="+s.Key)
	d := &daemon{b: b, dir: dir, cmd: exec.Command(b.assetd, append([]string{"run"}, args...)...), ended: make(chan error, 1)}
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = environ, log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	if err := d.ready(ctx, args, environ); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// ready waits until assetd itself says that it is.
func (d *daemon) ready(ctx context.Context, args, environ []string) error {
	return d.until(ctx, 20*time.Millisecond, "it is ready", func() (bool, error) {
		health := exec.CommandContext(ctx, d.b.assetd, append([]string{"health", "--ready"}, args...)...)
		health.Env = environ
		return health.Run() == nil, nil
	})
}

// until looks every so often, until it holds, ctx ends, or the daemon does.
func (d *daemon) until(ctx context.Context, every time.Duration, what string, holds func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("assetd ended before %s: %w\n%s", what, errors.Join(err), d.log())
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w\n%s", what, context.Cause(ctx), d.log())
		}
	}
}

// log is the end of the daemon's log.
func (d *daemon) log() string {
	text, _ := os.ReadFile(filepath.Join(d.dir, "assetd.log"))
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// drop hands runs in as one drop file, renamed into its place.
func (d *daemon) drop(name string, ids ...run.ID) error {
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(string(id) + "\n")
	}
	whole := filepath.Join(d.dir, "drop", "."+name+".tmp")
	if err := os.WriteFile(whole, []byte(text.String()), 0o640); err != nil {
		return err
	}
	return os.Rename(whole, filepath.Join(d.dir, "drop", name))
}

// storage is the folder with what is stored.
func (d *daemon) storage() string { return filepath.Join(d.dir, "assets") }

// settled waits until each of the runs has its manifest. It costs the daemon
// nothing, and looks at hardly more than one file at a time.
func (d *daemon) settled(ctx context.Context, ids []run.ID) error {
	return d.until(ctx, 2*time.Millisecond, "all runs are settled", func() (bool, error) {
		for len(ids) > 0 {
			if _, err := os.Stat(filepath.Join(d.storage(), string(ids[0]), "manifest.json")); err != nil {
				return false, nil
			}
			ids = ids[1:]
		}
		return true, nil
	})
}

// stop asks the daemon to end, and makes it where it does not.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-d.ended:
		d.ended <- err
		return err
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill() // as above
		d.ended <- <-d.ended
		return fmt.Errorf("assetd did not end within a minute of SIGTERM; the end of its log:\n%s", d.log())
	}
}
