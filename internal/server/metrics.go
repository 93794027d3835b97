package server

import (
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/assetd/assetd/internal/run"
)

// Metrics are the daemon's figures in the text format of Prometheus. What happens is
// counted as it is told; how things stand is read when it is asked for (Watch). No
// label holds an ID, a name or a URL, and every label has few values. Safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	accepted, known, givenUp     prometheus.Counter
	ignored                      prometheus.Counter
	settled                      *prometheus.CounterVec
	settling                     prometheus.Histogram
	stored                       *prometheus.CounterVec
	bytes                        prometheus.Counter
	lost, retries                *prometheus.CounterVec
	quarantined, slowed, panics  prometheus.Counter
	files, polls                 *prometheus.CounterVec
	polling, committing, syncing *prometheus.HistogramVec
	hooks, copies                *prometheus.CounterVec
	copied, size                 *prometheus.GaugeVec // without a series until there was one
}

// The values that labels can have. What is none of them is counted as other.
var (
	outcomes = []string{"stored", "partial", "failed"}
	kinds    = []string{"images", "videos", "audios"}
	rules    = []string{"refused", "final", "expired", "time"}
	results  = []string{"accepted", "rejected", "skipped"}
	replies  = []string{
		"answered", "rate_limited", "key_not_accepted", "forbidden", "not_found", "run_refused", "server_error", "unreachable", "unusable_answer",
	}
	causes = []string{
		"refused", "throttled", "gone", "server_error", "network", "stalled", "part_not_written", "no_room", "refused_by_the_rules",
		"not_media", "redirects_lead_nowhere", "nothing_to_fetch", "canceled", "storage",
	}
	synced = []string{"queue", "file", "directory", "file_system"}
	hooked = []string{"told", "failed", "given_up"}
	copied = []string{"made", "failed", "skipped"}
)

const other = "other"

// scrapesAtOnce bounds what those who ask too often cost.
const scrapesAtOnce = 4

// NewMetrics makes metrics in a registry of their own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce, Registry: m.registry,
	})
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "assetd_build_info", Help: "Always 1; the labels say which assetd this is, and which Go built it.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 }))
	m.countRuns()
	m.countAssets()
	m.countWork()
	m.countCare()
	return m
}

func (m *Metrics) countRuns() {
	m.accepted = m.counter("runs_accepted_total", "Runs taken into the queue that were not known before.")
	m.known = m.counter("runs_known_total", "Run IDs handed in that were known already.")
	m.givenUp = m.counter("runs_given_up_total", "Runs given up because the API never said that they ended, or does not know them.")
	m.ignored = m.counter("runs_with_ignored_urls_total", "Runs whose last answer has URLs that are no known asset's; their manifests list them as ignored.")
	m.settled = m.vector("runs_settled_total", "Runs that got their manifest, by outcome.", outcomes, "outcome")
	m.settling = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "assetd_run_settle_duration_seconds", Help: "Time from a run's hand-in to its manifest.",
		Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600},
	})
	m.registry.MustRegister(m.settling)
	m.files = m.vector("drop_files_total", "Drop files by result: accepted; rejected (something in it was wrong, see the .error file beside it); skipped (not a regular file, one with several names, or one of a file manager).", results, "result")
}

func (m *Metrics) countAssets() {
	m.stored = m.vector("assets_stored_total", "Assets that stand verified under their final name, by kind.", kinds, "kind")
	m.bytes = m.counter("stored_bytes_total", "Bytes of the assets stored.")
	m.lost = m.vector("assets_lost_total", "Assets given up, by rule: refused by the rules; its answers looked final; its URL expired and no fresh one came; not stored in time.", rules, "rule")
	m.retries = m.vector("asset_retries_total", "Attempts at an asset that brought no file and are repeated, by cause.", causes, "cause")
	m.quarantined = m.counter("assets_quarantined_total", "Answers kept in quarantine because they were not media.")
	m.slowed = m.counter("host_slowdowns_total", "Times a host turned requests away (403, 429, 503) and was left alone for a while.")
}

func (m *Metrics) countWork() {
	m.polls = m.vector("polls_total", "Requests to the API by result; rate_limited is HTTP 429.", replies, "result")
	m.polling = m.histogram("poll_duration_seconds", "Time from a request to the API to its whole answer.", nil)
	m.committing = m.histogram("queue_commit_duration_seconds", "Time that a commit of the queue took, its syncs included.", nil)
	m.syncing = m.histogram("sync_duration_seconds", "Time that writing to disk for good (fsync) took, by what was synced: the queue's pages, an asset's file, a directory, or a whole file system.", synced, "target")
	m.panics = m.counter("panics_total", "Panics in a stage, which carried on. Each is a bug: please report its log line.")
}

func (m *Metrics) countCare() {
	m.hooks = m.vector("hook_notices_total", "What became of telling others by hook.command and hook.url: told; failed (and is tried again); given_up after hook.give_up_after.", hooked, "result")
	m.copies = m.vector("backups_total", "Copies of the queue by result: made; failed; skipped because the disk is low. A trouble that lasts counts once.", copied, "result")
	m.copied = m.gauge("backup_last_success_timestamp_seconds", "When the last copy of the queue was made since the start, unix time. Missing until then.")
	m.size = m.gauge("backup_last_size_bytes", "Size of that copy.")
}

func (m *Metrics) gauge(name, help string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "assetd_" + name, Help: help}, nil)
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "assetd_" + name, Help: help})
	m.registry.MustRegister(c)
	return c
}

// vector is a counter that has a series for each of the values from the start on:
// an increase from nothing would be none.
func (m *Metrics) vector(name, help string, values []string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "assetd_" + name, Help: help}, labels)
	m.registry.MustRegister(c)
	for _, v := range values {
		c.WithLabelValues(v)
	}
	return c
}

func (m *Metrics) histogram(name, help string, values []string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "assetd_" + name, Help: help,
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, labels)
	m.registry.MustRegister(h)
	if len(labels) == 0 {
		h.WithLabelValues()
	}
	for _, v := range values {
		h.WithLabelValues(v)
	}
	return h
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// word is a text as a label's value, where that is one of those that there can be.
func word(text string, of []string) string {
	if w := strings.ReplaceAll(text, " ", "_"); slices.Contains(of, w) {
		return w
	}
	return other
}

// Tell counts an event.
func (m *Metrics) Tell(e run.Event) {
	switch e.Kind {
	case run.RunAccepted:
		m.accepted.Inc()
	case run.RunKnown:
		m.known.Add(float64(e.Count))
	case run.RunGivenUp:
		m.givenUp.Inc()
	case run.URLsKept:
		m.ignored.Inc()
	case run.RunSettled:
		m.settled.WithLabelValues(word(string(e.State), outcomes)).Inc()
		m.settling.Observe(max(e.Took, 0).Seconds())
	case run.FileAccepted:
		m.files.WithLabelValues("accepted").Inc()
	case run.FileRejected:
		m.files.WithLabelValues("rejected").Inc()
	case run.FileSkipped:
		m.files.WithLabelValues("skipped").Inc()
	default:
		m.tellAsset(e)
	}
}

func (m *Metrics) tellAsset(e run.Event) {
	switch e.Kind {
	case run.AssetKept:
		m.stored.WithLabelValues(word(string(e.Asset.Kind), kinds)).Inc()
		m.bytes.Add(float64(max(e.Bytes, 0)))
	case run.AssetGone:
		m.lost.WithLabelValues(word(string(e.Rule), rules)).Inc()
	case run.AssetRetry:
		m.retries.WithLabelValues(cause(e.Err)).Inc()
	case run.Quarantined:
		m.quarantined.Inc()
	case run.HostSlowed:
		m.slowed.Inc()
	case run.StageRecovered:
		m.panics.Inc()
	case run.BackupMade:
		m.copies.WithLabelValues("made").Inc()
		m.copied.WithLabelValues().SetToCurrentTime()
		m.size.WithLabelValues().Set(float64(e.Bytes))
	case run.BackupTrouble:
		m.copies.WithLabelValues("failed").Inc()
	case run.BackupSkipped:
		m.copies.WithLabelValues("skipped").Inc()
	}
}

// Hooked counts what became of a notice: told, failed or given_up.
func (m *Metrics) Hooked(result string) { m.hooks.WithLabelValues(word(result, hooked)).Inc() }

// caused is an error that says what sort it is of, in a few words.
type caused interface{ Cause() string }

// cause is why an asset is tried again. What no transfer failed by is our own disk's.
func cause(err error) string {
	var c caused
	switch {
	case errors.As(err, &c):
		return word(c.Cause(), causes)
	case err != nil:
		return "storage"
	}
	return other
}

// Polled counts a request to the API that ended with that error, a *run.Refusal, or
// nil where it was answered.
func (m *Metrics) Polled(err error, took time.Duration) {
	reply := "answered"
	var refusal *run.Refusal
	switch {
	case errors.As(err, &refusal):
		reply = word(string(refusal.Kind), replies)
	case err != nil:
		reply = other
	}
	m.polls.WithLabelValues(reply).Inc()
	m.polling.WithLabelValues().Observe(took.Seconds())
}

// Committed counts a commit of the queue, and that part of it in which its pages were
// written and synced.
func (m *Metrics) Committed(took, disk time.Duration) {
	m.committing.WithLabelValues().Observe(took.Seconds())
	m.syncing.WithLabelValues("queue").Observe(disk.Seconds())
}

// Synced counts a sync of a file, a directory or a file_system.
func (m *Metrics) Synced(what string, took time.Duration) {
	m.syncing.WithLabelValues(word(what, synced)).Observe(took.Seconds())
}
