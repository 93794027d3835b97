package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/simulator"
)

// The scripts run the real binary as a user would, against a simulator of their
// own with the runs that worldOf adds.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			sim, err := simulator.Start()
			if err != nil {
				return err
			}
			env.Defer(func() { sim.Close() })
			data, err := os.MkdirTemp("", "assetd") // a path short enough for a socket
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(data) })
			env.Setenv("DATA", data)
			env.Setenv("ASSETD_CONFIG", filepath.Join(env.WorkDir, "assetd.yaml"))
			env.Setenv("ASSETD_API_KEY", sim.Key())
			env.Setenv("SIM", sim.APIURL())
			if err := os.WriteFile(filepath.Join(env.WorkDir, "assetd.yaml"), scriptConfig(data, sim), 0o600); err != nil {
				return err
			}
			return worldOf(sim)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ready":       waitReady,
			"unready":     waitUnready,
			"settled":     waitRuns("settled", func(r server.Run) bool { return r.State.Settled() }),
			"held":        waitRuns("held up", func(r server.Run) bool { return r.State == run.Downloading && len(r.HeldUp) > 0 }),
			"downloading": waitRuns("downloading", downloading),
			"there":       waitThere(true),
			"gone":        waitThere(false),
		},
		RequireExplicitExec: true,
	})
}

func scriptConfig(data string, sim *simulator.Sim) []byte {
	return []byte(`data_dir: ` + data + `
shutdown_grace: 1s
server: {listen: ""}
api: {base_url: "` + sim.APIURL() + `", rate: 1000, burst: 1000}
poll: {min_interval: 100ms, max_interval: 1s}
drop: {settle: 100ms, rescan: 500ms}
storage: {min_free: 0B}
download: {allow_http: true, allow_networks: [127.0.0.0/8], give_up_after: 500ms}
`)
}

// worldOf is what the scripts can fetch.
func worldOf(sim *simulator.Sim) error {
	type o = []simulator.RunOption
	for id, opts := range map[run.ID]o{
		"good000001": {simulator.App("app1"), simulator.Image("img1", 9000), simulator.Image("img2", 9000), simulator.Audio("snd1", 9000)},
		"good000002": {simulator.App("app1"), simulator.Video("vid1", 60000)},
		"fail000001": {simulator.App("app1"), simulator.Ends(run.Failed), simulator.ErrorMessage("out of memory")},
		"part000001": {simulator.App("app1"), simulator.Image("img1", 9000), simulator.Image("gone", 9000, simulator.Status(404))},
		"deny000001": {simulator.Status(403)},
		"late000001": {simulator.App("app1"), simulator.Latency(300 * time.Millisecond), simulator.Image("img1", 9000)},
		"live000001": {simulator.App("app1"), simulator.FromFirstPoll(), simulator.Pending(500 * time.Millisecond), simulator.Running(500 * time.Millisecond), simulator.Image("img1", 9000)},
		"wait000001": {simulator.App("app1"), simulator.Running(time.Hour), simulator.Image("img1", 9000)},
		"html000001": {simulator.App("app1"), simulator.Image("page", 9000, simulator.HTML())},
		"slow000001": {simulator.App("app1"), simulator.Video("vid1", 4_000_000, simulator.Slow(40_000, 100*time.Millisecond))},
	} {
		if err := sim.AddRun(id, opts...); err != nil {
			return err
		}
	}
	return nil
}

// eventually calls done until it is true, or half a minute is over.
func eventually(ts *testscript.TestScript, what string, done func(ctx context.Context) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: not within 30 s", what)
		case <-tick.C:
		}
	}
}

func scriptClient(ts *testscript.TestScript) *server.Client {
	return server.NewClient(config.State{Dir: filepath.Join(ts.Getenv("DATA"), "state")}.Socket())
}

// ready waits until the daemon is.
func waitReady(ts *testscript.TestScript, _ bool, _ []string) {
	eventually(ts, "daemon ready", func(ctx context.Context) bool {
		h, err := scriptClient(ts).Health(ctx, true)
		return err == nil && h.OK
	})
}

// unready waits until the daemon is not ready.
func waitUnready(ts *testscript.TestScript, _ bool, _ []string) {
	eventually(ts, "daemon not ready", func(ctx context.Context) bool {
		h, err := scriptClient(ts).Health(ctx, true)
		return err == nil && !h.OK
	})
}

// waitRuns is a command WHAT RUN-ID... that waits until they are.
func waitRuns(what string, are func(server.Run) bool) func(ts *testscript.TestScript, _ bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for _, id := range args {
			eventually(ts, id+" "+what, func(ctx context.Context) bool {
				r, err := scriptClient(ts).Run(ctx, run.ID(id))
				return err == nil && are(r)
			})
		}
	}
}

func downloading(r server.Run) bool {
	return slices.ContainsFunc(r.AssetList, func(a server.Asset) bool {
		return a.State == run.AssetDownloading && a.Received > 0 && a.Total > 0
	})
}

// waitThere is a command FILE... that waits until all are there, or none is. A name
// may be a pattern.
func waitThere(want bool) func(ts *testscript.TestScript, _ bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			eventually(ts, fmt.Sprintf("%s there: %v", name, want), func(context.Context) bool {
				found, err := filepath.Glob(ts.MkAbs(name))
				return err == nil && len(found) > 0 == want
			})
		}
	}
}
