package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// readings are figures that a test sets.
type readings struct {
	queued  func() (server.Queued, error)
	working server.Working
	around  server.Around
}

func (r *readings) Queued(context.Context) (server.Queued, error) { return r.queued() }
func (r *readings) Working() server.Working                       { return r.working }
func (r *readings) Around() server.Around                         { return r.around }

// full are readings in which nothing is missing.
func full() *readings {
	age, slack := time.Hour, -time.Minute
	return &readings{
		queued: func() (server.Queued, error) {
			return server.Queued{
				Runs:   map[run.State]int{run.Waiting: 3, run.Downloading: 2, run.StoredRun: 9},
				Assets: map[run.AssetState]int{run.AssetWaiting: 10, run.AssetStored: 20},
				Oldest: &age, Outbox: 2, First: &age, DamagedFiles: 5, DamagedRuns: 3, Deadline: &slack, Size: 4096, Late: time.Second,
			}, nil
		},
		working: server.Working{Running: 4, Held: 1, Link: 1000, Drain: &age, Slack: &slack, Budget: 9.5, Tokens: 50},
		around: server.Around{
			API: true, Volume: true, MinFree: 7, Assets: &server.Space{Free: 70, Size: 700}, State: &server.Space{Free: 80, Size: 800}, Skew: &slack, Rejected: 2,
		},
	}
}

// scrape is what /metrics answers, line by line, without the lines about the process.
func scrape(t *testing.T, m *server.Metrics) (text string, lines map[string]bool) {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	lines = map[string]bool{}
	for line := range strings.Lines(w.Body.String()) {
		lines[strings.TrimSpace(line)] = true
	}
	return w.Body.String(), lines
}

func holds(t *testing.T, lines map[string]bool, want ...string) {
	t.Helper()
	for _, w := range want {
		if !lines[w] {
			t.Errorf("not there: %s", w)
		}
	}
}

func TestMetricsTellHowThingsStand(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	m.Watch(full())
	_, lines := scrape(t, m)
	holds(t, lines, `assetd_queue_up 1`, `assetd_runs{state="waiting"} 3`, `assetd_runs{state="failed"} 0`, `assetd_queue_depth 5`,
		`assetd_assets{state="waiting"} 5`, `assetd_assets{state="downloading"} 5`, `assetd_assets{state="stored"} 20`,
		`assetd_oldest_open_run_age_seconds 3600`, `assetd_nearest_deadline_seconds -60`, `assetd_poll_lag_seconds 1`, `assetd_outbox_depth 2`, `assetd_damaged_files 5`, `assetd_damaged_runs 3`, `assetd_outbox_oldest_age_seconds 3600`,
		`assetd_transfers_open 4`, `assetd_transfers_held 1`, `assetd_drain_seconds 3600`, `assetd_drain_slack_seconds -60`,
		`assetd_api_up 1`, `assetd_api_key_accepted 0`, `assetd_storage_free_bytes 70`, `assetd_state_free_bytes 80`, `assetd_storage_min_free_bytes 7`,
		`assetd_rejected_drop_files 2`, `assetd_clock_skew_seconds -60`, `assetd_api_budget_requests_per_second 9.5`)
}

func TestWhatIsNotKnownIsMissingAndNotZero(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	r := full()
	r.queued = func() (server.Queued, error) { return server.Queued{}, nil }
	r.working, r.around = server.Working{}, server.Around{Assets: &server.Space{Free: 70}} // of an offline volume
	m.Watch(r)
	text, lines := scrape(t, m)
	for _, name := range []string{"oldest_open_run_age", "nearest_deadline", "drain", "link", "storage_free", "state_free", "clock_skew"} {
		if strings.Contains(text, "\nassetd_"+name) {
			t.Errorf("%s is told", name)
		}
	}
	holds(t, lines, `assetd_volume_up 0`, `assetd_assets_lost_total{rule="expired"} 0`, `assetd_runs_settled_total{outcome="partial"} 0`)
}

func TestAScrapeDoesNotWaitForAQueueThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := server.NewMetrics("1.2.3")
		r := full()
		disk, asked := make(chan struct{}), atomic.Int32{}
		r.queued = func() (server.Queued, error) { asked.Add(1); <-disk; return server.Queued{}, nil }
		m.Watch(r)
		for range 3 {
			begun := time.Now()
			text, lines := scrape(t, m)
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			holds(t, lines, `assetd_queue_up 0`, `assetd_transfers_open 4`)
			if strings.Contains(text, "\nassetd_runs{") {
				t.Error("runs are told though the queue does not answer")
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d questions pile up", n)
		}
		close(disk)
		synctest.Wait()
		_, lines := scrape(t, m)
		holds(t, lines, `assetd_queue_up 1`)
		if asked.Load() != 2 {
			t.Errorf("asked %d times in all", asked.Load())
		}
	})
}

func TestAQueueThatFailsIsTold(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	r := full()
	r.queued = func() (server.Queued, error) { return server.Queued{}, errors.New("damaged") }
	m.Watch(r)
	_, lines := scrape(t, m)
	holds(t, lines, `assetd_queue_up 0`, `assetd_volume_up 1`)
}

// sorted is an error of a sort.
type sorted string

func (s sorted) Error() string { return "https://h/?token=PLANTED" }
func (s sorted) Cause() string { return string(s) }

func TestWhatHappensIsCounted(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	key := run.Key{Run: "PLANTEDrun", Kind: run.Images, ID: "PLANTEDasset"}
	for _, e := range []run.Event{
		{Kind: run.RunAccepted, Run: key.Run},
		{Kind: run.RunKnown, Count: 3},
		{Kind: run.RunSettled, Run: key.Run, State: run.PartialRun, Took: time.Minute},
		{Kind: run.AssetKept, Asset: key, Bytes: 1000},
		{Kind: run.AssetKept, Asset: run.Key{Kind: "PLANTEDkind"}, Bytes: 24},
		{Kind: run.AssetGone, Asset: key, Rule: run.LossExpired, Host: "PLANTEDhost"},
		{Kind: run.AssetRetry, Asset: key, Err: sorted("not media")},
		{Kind: run.AssetRetry, Asset: key, Err: sorted("PLANTED")},
		{Kind: run.AssetRetry, Asset: key, Err: errors.New("disk")},
		{Kind: run.AssetRetry, Asset: key, Note: "made room"},
		{Kind: run.FileAccepted, File: "PLANTEDfile"},
		{Kind: run.FileRejected},
		{Kind: run.FileSkipped},
		{Kind: run.RunGivenUp},
		{Kind: run.Quarantined},
		{Kind: run.HostSlowed, Host: "PLANTEDhost"},
		{Kind: run.StageRecovered, Note: "PLANTED"},
		{Kind: run.BackupMade, Bytes: 77},
		{Kind: run.BackupTrouble},
		{Kind: run.BackupSkipped},
		{Kind: "something new"},
	} {
		m.Tell(e)
	}
	m.Hooked("given_up")
	m.Polled(nil, time.Second)
	m.Polled(&run.Refusal{Kind: run.RateLimited}, time.Second)
	m.Polled(errors.New("?"), time.Second)
	m.Committed(3*time.Millisecond, 2*time.Millisecond)
	m.Synced("file_system", 2*time.Second)
	text, lines := scrape(t, m)
	holds(t, lines, `assetd_runs_accepted_total 1`, `assetd_runs_known_total 3`, `assetd_runs_settled_total{outcome="partial"} 1`,
		`assetd_run_settle_duration_seconds_bucket{le="60"} 1`, `assetd_assets_stored_total{kind="images"} 1`, `assetd_assets_stored_total{kind="other"} 1`,
		`assetd_stored_bytes_total 1024`, `assetd_assets_lost_total{rule="expired"} 1`, `assetd_asset_retries_total{cause="not_media"} 1`,
		`assetd_asset_retries_total{cause="storage"} 1`, `assetd_asset_retries_total{cause="other"} 2`,
		`assetd_drop_files_total{result="accepted"} 1`, `assetd_drop_files_total{result="rejected"} 1`, `assetd_drop_files_total{result="skipped"} 1`,
		`assetd_runs_given_up_total 1`, `assetd_assets_quarantined_total 1`, `assetd_host_slowdowns_total 1`, `assetd_panics_total 1`,
		`assetd_backups_total{result="made"} 1`, `assetd_backups_total{result="failed"} 1`, `assetd_backup_last_size_bytes 77`, `assetd_hook_notices_total{result="given_up"} 1`,
		`assetd_polls_total{result="answered"} 1`, `assetd_polls_total{result="rate_limited"} 1`, `assetd_polls_total{result="other"} 1`,
		`assetd_poll_duration_seconds_count 3`, `assetd_queue_commit_duration_seconds_bucket{le="0.0025"} 0`, `assetd_queue_commit_duration_seconds_bucket{le="0.005"} 1`,
		`assetd_sync_duration_seconds_count{target="queue"} 1`, `assetd_sync_duration_seconds_count{target="file_system"} 1`)
	if strings.Contains(text, "PLANTED") {
		t.Error("an ID, a name or a token is told")
	}
}

func TestMetricsAreCleanUnderPromlint(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	m.Watch(full())
	text, _ := scrape(t, m)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// Lint looks at some of what people read, too.
	for line := range strings.Lines(text) {
		if help, ok := strings.CutPrefix(line, "# HELP assetd_"); ok && !strings.HasSuffix(strings.TrimSpace(help), ".") {
			t.Errorf("no sentence: %s", line)
		}
	}
}
