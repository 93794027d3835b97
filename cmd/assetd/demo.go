package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/simulator"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	var scenario string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see the whole thing on this machine, no key needed",
		Long: `Starts a simulator of the Magnific API and its CDN on loopback, and a real daemon on
a new directory below the temporary one; hands runs in in several ways, shows what
happens, and where the files are. It has a configuration of its own; with --keep that
lies in the new directory, to be tried with other commands.

With --scenario faults the servers fail in every way that can heal, with --scenario
oddities they want to be asked in unusual ways or say untrue things of what they send.`,
		Example: example("assetd demo", "assetd demo --keep", "assetd demo --scenario oddities"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("config") || cmd.Flags().Changed("set") {
				return withCode(exitUsage, "demo has a configuration of its own, --config and --set are not for it (see assetd demo --help)")
			}
			if demoScenarios[scenario] == nil {
				return withCode(exitUsage, "there is no scenario %q: there are %s", scenario, strings.Join(slices.Sorted(maps.Keys(demoScenarios)), ", "))
			}
			return a.demo(cmd.Context(), scenario, keep)
		},
	}
	cmd.Flags().StringVar(&scenario, "scenario", "demo", "how the simulator's servers behave: demo, faults or oddities")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave daemon and simulator running until Ctrl-C, to be tried by hand")
	return cmd
}

// How fast the demo's runs go, and how long all of it may take.
const (
	demoPace = 1
	demoTime = 2 * time.Minute
)

// demoScenarios add runs to the simulator whose assets are all stored in the end.
var demoScenarios = map[string]func(*simulator.Sim) ([]run.ID, error){
	"demo":     func(s *simulator.Sim) ([]run.ID, error) { return simulator.Demo(s, demoPace) },
	"faults":   simulator.Faults,
	"oddities": simulator.Oddities,
}

// demo is the demo while it runs.
type demo struct {
	*app
	dir    string
	sim    *simulator.Sim
	ids    []run.ID
	client *server.Client
	daemon *exec.Cmd
	ended  chan error
	out    *printer
}

func (a *app) demo(ctx context.Context, scenario string, keep bool) error {
	// A terminal that is closed ends the demo as Ctrl-C does: its daemon has a process
	// group of its own and would stay behind.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	d := &demo{app: a, out: &printer{w: a.stdout}, ended: make(chan error, 1)}
	var err error
	if d.dir, err = os.MkdirTemp("", "assetd-demo-"); err != nil {
		return err
	}
	d.client = server.NewClient(config.State{Dir: filepath.Join(d.dir, "state")}.Socket())
	if d.sim, err = simulator.Start(simulator.WithSeed(uint64(time.Now().UnixNano()))); err != nil {
		return err
	}
	defer d.sim.Close()
	if d.ids, err = demoScenarios[scenario](d.sim); err != nil {
		return err
	}
	d.out.printf("simulator: API at %s, CDN at %s\n", d.sim.APIURL(), d.sim.CDNURL())
	if err := d.startDaemon(); err != nil {
		return err
	}
	defer d.stopDaemon()
	return d.show(ctx, keep)
}

func (d *demo) show(ctx context.Context, keep bool) error {
	within, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	if err := d.waitReady(within); err != nil {
		return err
	}
	if err := d.submit(); err != nil {
		return err
	}
	if err := d.follow(within); err != nil {
		return err
	}
	if err := d.summary(within); err != nil {
		return err
	}
	if keep {
		if err := d.keep(ctx); err != nil {
			return err
		}
	}
	return d.out.err
}

// settings is how the demo's daemon differs from a real one: it talks to loopback.
func (d *demo) settings() []string {
	return []string{
		"data_dir=" + d.dir, "api.base_url=" + d.sim.APIURL(), "server.listen=", "log.format=console", "log.level=debug",
		"download.allow_http=true", "download.allow_networks=127.0.0.0/8", "storage.min_free=0B", "download.stall_timeout=2s",
	}
}

// startDaemon starts this very program as the daemon, in a process of its own.
func (d *demo) startDaemon() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to start it as the daemon: %w", err)
	}
	log, err := os.Create(d.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"run", "--config", os.DevNull}
	for _, s := range d.settings() {
		args = append(args, "--set", s)
	}
	d.daemon = exec.Command(self, args...)
	d.daemon.Stdout, d.daemon.Stderr = log, log
	for _, v := range d.environ() {
		if !strings.HasPrefix(v, "ASSETD_") && !strings.HasPrefix(v, "MAGNIFIC_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			d.daemon.Env = append(d.daemon.Env, v)
		}
	}
	d.daemon.Env = append(d.daemon.Env, "ASSETD_API_KEY="+d.sim.Key())
	// A Ctrl-C in the terminal is for the demo, which then stops the daemon.
	// It stops, too, when the demo is killed: when the thread that started it ends,
	// says Linux, so this one is kept.
	runtime.LockOSThread()
	d.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.daemon.Start(); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	go func() { d.ended <- d.daemon.Wait() }()
	d.out.printf("daemon:    process %d, data in %s, log in %s\n\n", d.daemon.Process.Pid, d.dir, d.logFile())
	return nil
}

func (d *demo) logFile() string { return filepath.Join(d.dir, "assetd.log") }

func (d *demo) waitReady(ctx context.Context) error {
	within, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("not ready within 20 s"))
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- d.client.Wait(within) }()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("the daemon did not get ready: %w; its log: %s", err, d.logFile())
		}
		return nil
	case err := <-d.ended:
		return d.gone(err)
	}
}

// gone is the end of a daemon that nobody asked to stop.
func (d *demo) gone(err error) error {
	d.ended <- err
	return fmt.Errorf("the daemon ended by itself: %s; its log: %s", d.daemon.ProcessState, d.logFile())
}

// stopDaemon asks the daemon to stop and waits for it.
func (d *demo) stopDaemon() {
	d.daemon.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-d.ended:
	case <-time.After(30 * time.Second):
		d.daemon.Process.Kill() //nolint:errcheck // as above
		<-d.ended
	}
}

// submit drops the run IDs in the ways that internal/server/README.md names.
func (d *demo) submit() error {
	drop := filepath.Join(d.dir, "drop")
	id := func(i int) string { return string(d.ids[i]) }
	d.out.printf("submitting %d runs:\n", len(d.ids))
	files := []struct{ name, text, how string }{
		{id(0), "", "touch drop/" + id(0)},
		{"render.json", fmt.Sprintf(`{"data": {"workflow_run_identifier": %q, "status": "CREATED"}}`, id(1)), "the API's own answer to a start, saved as drop/render.json"},
		{"shot-12.json", fmt.Sprintf(`{"run_ids": [%q, %q], "labels": {"shot": "12"}}`, id(2), id(3)), "two IDs with a label in drop/shot-12.json"},
		{"night.jsonl", fmt.Sprintf("%q\n{\"run_id\": %q}\n", id(4), id(5)), "one value per line in drop/night.jsonl"},
		{"list.txt", strings.Join(append([]string{"# what the team started today"}, strs(d.ids[6:10])...), "\r\n") + "\nnot an id!\n", "IDs and a typo in drop/list.txt: it goes to drop/rejected/, its good IDs are taken"},
	}
	for _, f := range files {
		// Written under a name that is not yet there, then renamed: taken at once and complete.
		tmp := filepath.Join(drop, "."+f.name+".tmp")
		if err := os.WriteFile(tmp, []byte(f.text), 0o660); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(drop, f.name)); err != nil {
			return err
		}
		d.out.printf("  %s\n", f.how)
	}
	var rest []run.HandIn
	for _, id := range d.ids[10:] {
		rest = append(rest, run.HandIn{ID: id})
	}
	if _, err := dropfile.Write(drop, rest); err != nil {
		return err
	}
	d.out.printf("  assetd add %s\n\n", strings.Join(strs(d.ids[10:]), " "))
	return d.out.err
}

func strs(ids []run.ID) []string {
	var s []string
	for _, id := range ids {
		s = append(s, string(id))
	}
	return s
}

// follow prints the states of runs and assets whenever they change, until all runs are
// settled.
func (d *demo) follow(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		runs, err := d.runs(ctx)
		if err != nil {
			return fmt.Errorf("asking the daemon: %w; its log: %s", err, d.logFile())
		}
		line, settled := summary(runs)
		if line != last {
			d.out.printf("%5.1f s  %s\n", time.Since(start).Seconds(), line)
			last = line
		}
		if settled == len(d.ids) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while %d of %d runs are settled: %w; see %s", settled, len(d.ids), context.Cause(ctx), d.dir)
		case err := <-d.ended:
			return d.gone(err)
		case <-tick.C:
		}
	}
}

func (d *demo) runs(ctx context.Context) ([]server.Run, error) {
	var runs []server.Run
	err := d.client.Runs(ctx, server.Filter{}, "", func(r server.Run) error {
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

// summary returns one line with how many runs and assets are in which state.
func summary(runs []server.Run) (line string, settled int) {
	api, ours := map[run.Status]int{}, map[run.State]int{}
	assets, stored := 0, 0
	for _, r := range runs {
		if r.State == run.Waiting {
			api[r.Status]++
		}
		ours[r.State]++
		assets += r.Assets
		stored += r.Stored
		if r.State.Settled() {
			settled++
		}
	}
	return fmt.Sprintf("runs: %d new, %d pending, %d running, %d downloading, %d settled   assets: %d of %d stored",
		api[""], api[run.Pending], api[run.Running], ours[run.Downloading], settled, stored, assets), settled
}

// keep leaves all running until the person has seen enough.
func (d *demo) keep(ctx context.Context) error {
	self, _ := os.Executable()
	args := []string{"ASSETD_CONFIG=" + filepath.Join(d.dir, "assetd.yaml"), self}
	if err := d.writeConfig(); err != nil {
		return err
	}
	d.out.printf("\ndaemon and simulator keep running. In another terminal:\n")
	for _, try := range []string{"list", "show " + string(d.ids[0]), "check", "health --ready"} {
		d.out.printf("  %s %s\n", strings.Join(args, " "), try)
	}
	d.out.printf("Ctrl-C ends both; the files stay.\n")
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.ended:
		return d.gone(err)
	}
}

// writeConfig writes the demo's settings as a configuration, with its key beside
// it: the simulator's, which opens nothing.
func (d *demo) writeConfig() error {
	keyFile := filepath.Join(d.dir, "api-key")
	if err := os.WriteFile(keyFile, []byte(d.sim.Key()+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, "assetd.yaml"), asYAML(append(d.settings(), "api.key_file="+keyFile)), 0o600)
}

// asYAML is settings of the form key=value as a configuration file has them.
func asYAML(settings []string) []byte {
	sections, text := map[string][]string{}, ""
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		if value != "true" { // a text, also where it is empty
			value = strconv.Quote(value)
		}
		section, key, ok := strings.Cut(name, ".")
		switch {
		case !ok:
			text += fmt.Sprintf("%s: %s\n", name, value)
			continue
		case key == "allow_networks":
			value = "[" + value + "]"
		}
		sections[section] = append(sections[section], fmt.Sprintf("  %s: %s\n", key, value))
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		text += name + ":\n" + strings.Join(sections[name], "")
	}
	return []byte(text)
}
