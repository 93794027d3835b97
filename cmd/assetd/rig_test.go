package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/dropfile"
	"github.com/assetd/assetd/internal/manifest"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/simulator"
)

// rig is a simulator in this process and a place for the real binary to work in.
type rig struct {
	t        *testing.T
	sim      *simulator.Sim
	dir      string // data_dir
	settings []string
	log      *buffer // of all daemons that ran here
}

// buffer takes output from several processes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T, settings []string, opts ...simulator.Option) *rig {
	t.Helper()
	sim, err := simulator.Start(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	r := &rig{t: t, sim: sim, dir: shortDir(t), log: &buffer{}}
	r.settings = append([]string{
		"data_dir=" + r.dir, "api.base_url=" + sim.APIURL(), "server.listen=", "log.level=debug",
		"download.allow_http=true", "download.allow_networks=127.0.0.0/8", "storage.min_free=0B",
		"poll.min_interval=100ms", "poll.max_interval=1s", "drop.settle=100ms", "drop.rescan=500ms", "api.rate=1000", "api.burst=1000",
	}, settings...)
	return r
}

// shortDir is a temporary directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "assetd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command is the real binary with the rig's settings.
func (r *rig) command(args ...string) *exec.Cmd {
	r.t.Helper()
	for _, s := range r.settings {
		args = append(args, "--set", s)
	}
	cmd := exec.Command("assetd", append(args, "--config", os.DevNull)...)
	cmd.Env = append(os.Environ(), "ASSETD_API_KEY="+r.sim.Key())
	return cmd
}

// withFile is the same with a configuration file, which names the key.
func (r *rig) withFile(file string, args ...string) *exec.Cmd {
	r.t.Helper()
	cmd := r.command(args...)
	cmd.Args[len(cmd.Args)-1] = file
	cmd.Env = os.Environ()
	return cmd
}

// output runs a command to its end and returns what it printed, and its exit code.
func (r *rig) output(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd := r.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// process is a daemon that was started.
type process struct {
	r     *rig
	cmd   *exec.Cmd
	ended chan error
}

func (r *rig) start() *process {
	r.t.Helper()
	return r.launch(r.command("run"))
}

func (r *rig) launch(daemon *exec.Cmd) *process {
	r.t.Helper()
	p := &process{r: r, cmd: daemon, ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = r.log, r.log
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.t.Cleanup(func() { p.kill() })
	return p
}

// ready waits until the daemon says that it is.
func (p *process) ready() *process {
	p.r.t.Helper()
	ctx, cancel := context.WithTimeout(p.r.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.r.client().Wait(ctx); err != nil {
		p.r.t.Fatalf("daemon not ready: %v\n%s", err, p.r.log)
	}
	return p
}

func (r *rig) client() *server.Client {
	return server.NewClient(config.State{Dir: filepath.Join(r.dir, "state")}.Socket())
}

// kill ends the daemon as a power cut of the process would.
func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.ended <- <-p.ended
}

// stop asks the daemon to stop and returns its exit code.
func (p *process) stop() int {
	p.r.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // as above
	select {
	case err := <-p.ended:
		p.ended <- err
	case <-time.After(time.Minute):
		p.r.t.Fatalf("not stopped within a minute\n%s", p.r.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// handIn writes a drop file.
func (r *rig) handIn(ids []run.ID) {
	r.t.Helper()
	var list []run.HandIn
	for _, id := range ids {
		list = append(list, run.HandIn{ID: id})
	}
	if _, err := dropfile.Write(filepath.Join(r.dir, "drop"), list); err != nil {
		r.t.Fatal(err)
	}
}

// waitSettled waits until so many runs are settled.
func (r *rig) waitSettled(n int, within time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		settled, total := 0, 0
		err := r.client().Runs(ctx, server.Filter{}, "", func(v server.Run) error {
			total++
			if v.State.Settled() {
				settled++
			}
			return nil
		})
		if err == nil && settled >= n {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%d of %d runs settled (%d known) within %v: %v\n%s\n%s", settled, n, total, within, err, r.open(), tail(r.log.String(), 6000))
		case <-tick.C:
		}
	}
}

// open describes the runs that are not settled.
func (r *rig) open() string {
	var ids []run.ID
	err := r.client().Runs(context.Background(), server.Filter{}, "", func(v server.Run) error {
		if !v.State.Settled() {
			ids = append(ids, v.RunID)
		}
		return nil
	})
	text, _ := json.Marshal(err)
	for _, id := range ids[:min(len(ids), 5)] {
		v, _ := r.client().Run(context.Background(), id)
		one, _ := json.Marshal(v)
		text = append(append(text, '\n'), one...)
	}
	return string(text)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// judgeFiles holds every file under a final name against what the simulator made.
// It may be called at any moment: half a file is never visible.
func (r *rig) judgeFiles() {
	r.t.Helper()
	right := map[string]bool{}
	for _, e := range r.sim.Expected() {
		for _, a := range e.Assets {
			right[a.SHA256] = true
			for _, older := range a.Older {
				right[older] = true
			}
		}
	}
	r.walk(func(path string, data []byte) {
		switch filepath.Base(path) {
		case manifest.File:
			r.judgeManifest(path, data)
		case manifest.SumsFile:
		default:
			if sum := hash(data); !right[sum] {
				r.t.Errorf("%s: %d bytes that the simulator never made", path, len(data))
			}
		}
	})
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// walk calls f with every file of the volume but what is in .assetd.
func (r *rig) walk(f func(path string, data []byte)) {
	r.t.Helper()
	root := filepath.Join(r.dir, "assets")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if e.Name() == ".assetd" {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(e.Name(), ".") {
			return nil // on its way
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f(path, data)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Error(err)
	}
}

// judgeManifest holds a manifest against the files beside it: every one it names
// is there with its size and sum.
func (r *rig) judgeManifest(path string, data []byte) manifest.Manifest {
	r.t.Helper()
	m, err := manifest.Parse(data)
	if err != nil {
		r.t.Errorf("%s: %v", path, err)
		return m
	}
	for _, a := range m.Assets {
		if a.File == nil {
			continue
		}
		stored, err := os.ReadFile(filepath.Join(filepath.Dir(path), filepath.FromSlash(*a.File)))
		if err != nil || int64(len(stored)) != *a.Size || hash(stored) != *a.SHA256 {
			r.t.Errorf("%s names %s, which is not as it says: %v", path, *a.File, err)
		}
	}
	return m
}

// judgeEnd holds simulator, queue, manifests and disk against each other after all
// is settled and the daemon has ended.
func (r *rig) judgeEnd(ids []run.ID) {
	r.t.Helper()
	q, err := queue.Open(filepath.Join(r.dir, "state"), queue.Options{ReadOnly: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer q.Close()
	expected := map[run.ID]simulator.ExpectedRun{}
	for _, e := range r.sim.Expected() {
		expected[e.ID] = e
	}
	files := 0
	for _, id := range ids {
		files += r.judgeRun(q, id, expected[id])
	}
	found := 0
	r.walk(func(path string, _ []byte) {
		if base := filepath.Base(path); base != manifest.File && base != manifest.SumsFile {
			found++
		}
	})
	if found != files {
		r.t.Errorf("%d media files on disk, the manifests name %d", found, files)
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, "assets", ".assetd", "parts")); len(left) > 0 {
		r.t.Errorf("%d parts left, the first %s", len(left), left[0].Name())
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, "state", "answers")); len(left) > 0 {
		r.t.Errorf("%d answers left", len(left))
	}
	for _, leak := range r.sim.Leaks() {
		r.t.Errorf("sent where it must not go: %v", leak)
	}
}

// judgeRun returns how many files the run's manifest names.
func (r *rig) judgeRun(q *queue.Queue, id run.ID, want simulator.ExpectedRun) int {
	r.t.Helper()
	record, err := q.Get(r.t.Context(), id)
	if err != nil {
		r.t.Errorf("run %s is lost: %v", id, err)
		return 0
	}
	path := filepath.Join(r.dir, "assets", filepath.FromSlash(record.Dir), manifest.File)
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Errorf("run %s, state %s: %v", id, record.State, err)
		return 0
	}
	m := r.judgeManifest(path, data)
	if m.Outcome != want.Outcome || record.State != want.Outcome.State() || m.RunID != id {
		r.t.Errorf("run %s: outcome %s, state %s, want %s", id, m.Outcome, record.State, want.Outcome)
	}
	byKey := map[run.Key]manifest.Asset{}
	files := 0
	for _, a := range m.Assets {
		byKey[run.Key{Run: id, Kind: a.Kind, ID: a.ID}] = a
		if a.File != nil {
			files++
		}
	}
	for _, a := range want.Assets {
		got, named := byKey[a.Key]
		switch {
		case !named:
			r.t.Errorf("%s is not in its manifest", a.Key)
		case a.Lost != (got.File == nil):
			reason, _ := json.Marshal(got)
			r.t.Errorf("%s: lost %v, want %v: %s", a.Key, got.File == nil, a.Lost, reason)
		case !a.Lost && *got.SHA256 != a.SHA256 && !contains(a.Older, *got.SHA256):
			r.t.Errorf("%s: other bytes than the simulator's", a.Key)
		}
	}
	if len(m.Assets) != len(want.Assets) {
		r.t.Errorf("run %s: %d assets, want %d", id, len(m.Assets), len(want.Assets))
	}
	return files
}

// stored is the name of an asset's file below its run's directory.
func (r *rig) stored(id run.ID, asset string) string {
	r.t.Helper()
	out, _, _ := r.output("show", "--json", string(id))
	var v server.Run
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatalf("%q: %v", out, err)
	}
	for _, a := range v.AssetList {
		if a.ID == asset {
			return a.File
		}
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
