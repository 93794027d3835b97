package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
)

// Servers that want to be asked in another way, or that say of an object what is not
// so: A7 to A10, A17 to A20 through the whole program.
func TestCase_A7_A8_A9_A10_A17_A18_A19_A20_OddServersLoseNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"download.give_up_after=30s"})
	ids, err := simulator.Oddities(r.sim)
	if err != nil {
		t.Fatal(err)
	}
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(len(ids), time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.judgeEnd(ids)
	for _, f := range r.sim.Unfired() {
		t.Errorf("did not fire: %s", f)
	}
	r.noDataURLOnDisk()
}

// noDataURLOnDisk: what a data URL holds is in the answer's file and in the asset.
func (r *rig) noDataURLOnDisk() {
	r.t.Helper()
	looked := 0
	err := filepath.WalkDir(r.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Base(filepath.Dir(path)) == "answers" {
			return err
		}
		text, err := os.ReadFile(path)
		looked++
		if strings.Contains(string(text), ";base64,") {
			r.t.Errorf("%s holds a data URL", path)
		}
		return err
	})
	if err != nil || looked < 10 || strings.Contains(r.log.String(), ";base64,") {
		r.t.Errorf("looked at %d files: %v; in the log: %v", looked, err, strings.Contains(r.log.String(), ";base64,"))
	}
}

func TestCase_A21_UserAgentIsNamedByVersionAndCanBeSet(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"download.user_agent=studio/1.0"})
	if err := r.sim.AddRun("agent00001", simulator.Image("a", 9000, simulator.RefuseAgent("assetd"))); err != nil {
		t.Fatal(err)
	}
	if err := r.sim.AddRun("agent00002", simulator.Image("a", 9000)); err != nil {
		t.Fatal(err)
	}
	p := r.start().ready()
	r.handIn([]run.ID{"agent00001"})
	r.waitSettled(1, time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.settings = append(r.settings, "download.user_agent=")
	p = r.start().ready()
	r.handIn([]run.ID{"agent00002"})
	r.waitSettled(2, time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	var agents []string
	for _, q := range r.sim.Requests(func(q simulator.Request) bool { return q.Server == simulator.CDN }) {
		agents = append(agents, q.UserAgent)
	}
	if len(agents) != 2 || agents[0] != "studio/1.0" || !strings.HasPrefix(agents[1], "assetd/") {
		t.Errorf("asked as %q", agents)
	}
}
