package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// page is what the daemon's socket answers to a GET.
func (r *rig) page(path string) string {
	r.t.Helper()
	socket := filepath.Join(r.dir, "state", "assetd.sock")
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Get("http://assetd" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// metric is the value of a series, as it is written; false: it is not there.
func (r *rig) metric(series string) (float64, bool) {
	r.t.Helper()
	for line := range strings.Lines(r.page("/metrics")) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			return value, true
		}
	}
	return 0, false
}

// becomes waits until a series has a value for which is holds.
func (r *rig) becomes(series string, is func(v float64, there bool) bool) {
	r.t.Helper()
	late := time.After(30 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		v, there := r.metric(series)
		if is(v, there) {
			return
		}
		select {
		case <-late:
			r.t.Fatalf("%s is %v (there: %v)\n%s", series, v, there, tail(r.log.String(), 3000))
		case <-tick.C:
		}
	}
}

func equals(want float64) func(float64, bool) bool {
	return func(v float64, there bool) bool { return there && v == want }
}

func TestMetricsOfADaemonTellWhatItDid(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"download.give_up_after=500ms"})
	for id, opts := range map[run.ID][]simulator.RunOption{
		"good000001": {simulator.Image("img1", 9000), simulator.Video("vid1", 60_000)},
		"part000001": {simulator.Image("img1", 9000), simulator.Image("gone", 9000, simulator.Status(404))},
		"wait000001": {simulator.Running(time.Hour)},
	} {
		if err := r.sim.AddRun(id, opts...); err != nil {
			t.Fatal(err)
		}
	}
	p := r.start().ready()
	r.handIn([]run.ID{"good000001", "part000001", "wait000001"})
	plant(t, filepath.Join(r.dir, "drop", "bad.txt"), "not an ID\n")
	r.waitSettled(2, time.Minute)
	r.becomes("assetd_rejected_drop_files", equals(1))
	r.becomes("assetd_storage_free_bytes", func(v float64, there bool) bool { return there && v > 0 })
	r.becomes("assetd_oldest_open_run_age_seconds", func(v float64, there bool) bool { return there && v > 0 && v < 600 })
	for series, want := range map[string]float64{
		`assetd_runs_accepted_total`: 3, `assetd_runs_settled_total{outcome="stored"}`: 1, `assetd_runs_settled_total{outcome="partial"}`: 1,
		`assetd_runs{state="waiting"}`: 1, `assetd_runs{state="stored"}`: 1, `assetd_assets{state="stored"}`: 3, `assetd_assets{state="lost"}`: 1,
		`assetd_assets_stored_total{kind="images"}`: 2, `assetd_assets_stored_total{kind="videos"}`: 1, `assetd_assets_lost_total{rule="final"}`: 1,
		`assetd_drop_files_total{result="accepted"}`: 1, `assetd_drop_files_total{result="rejected"}`: 1, `assetd_queue_depth`: 1,
		`assetd_api_up`: 1, `assetd_api_key_accepted`: 1, `assetd_volume_up`: 1, `assetd_volume_has_room`: 1, `assetd_queue_up`: 1, `assetd_clock_skew_seconds`: 0,
		`assetd_transfers_open`: 0, `assetd_storage_min_free_bytes`: 0, `assetd_panics_total`: 0,
	} {
		if got, there := r.metric(series); !there || got != want {
			t.Errorf("%s is %v (there: %v), want %v", series, got, there, want)
		}
	}
	for _, series := range []string{
		`assetd_polls_total{result="answered"}`, `assetd_poll_duration_seconds_count`, `assetd_asset_retries_total{cause="gone"}`,
		`assetd_queue_commit_duration_seconds_count`, `assetd_sync_duration_seconds_count{target="queue"}`, `assetd_sync_duration_seconds_count{target="directory"}`,
		`assetd_stored_bytes_total`, `assetd_received_bytes_total`, `assetd_state_free_bytes`, `assetd_api_budget_tokens`, `assetd_queue_file_bytes`,
		`go_goroutines`, `process_open_fds`,
	} {
		if got, there := r.metric(series); !there || got <= 0 {
			t.Errorf("%s is %v (there: %v)", series, got, there)
		}
	}
	r.promtool(r.page("/metrics"))
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// promtool has Prometheus' own tool look for faults in what was scraped.
func (r *rig) promtool(text string) {
	r.t.Helper()
	path, err := exec.LookPath("promtool")
	switch {
	case err != nil && testenv.Full():
		testenv.Missing(r.t, "promtool (Debian: prometheus)")
	case err != nil:
		r.t.Log("promtool is missing: the metrics were not checked by it")
		return
	}
	cmd := exec.CommandContext(r.t.Context(), path, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		r.t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
