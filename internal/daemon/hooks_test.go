package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// hooked is the hooks of a configuration over a queue, which write notices and send none.
func hooked(t *testing.T, q *queue.Queue, set ...string) *hooks {
	t.Helper()
	c, _, err := config.Load(config.Options{Set: append(set, "data_dir="+t.TempDir()), Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := pipeline.New(c, "key", q, q, pipeline.Observers{}, func(run.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	h, err := newHooks(c, q, e, func(run.Event) {}, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func emptyQueue(t *testing.T) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.TempDir(), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// written is the kinds that stand in the outbox once all that is pending was written.
func written(t *testing.T, h *hooks) (kinds []run.NoticeKind) {
	t.Helper()
	if err := h.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := h.queue.Outbox(t.Context(), run.CommandHook, 0, 999)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range found {
		if n.At.IsZero() {
			t.Errorf("%+v has no time", n)
		}
		kinds = append(kinds, n.Kind)
	}
	return kinds
}

const aCommand = "hook.command=/bin/true"

func TestHooks_ReportTroubleOnceAndItsEndOnce(t *testing.T) {
	h := hooked(t, emptyQueue(t), aCommand)
	for _, k := range []run.EventKind{
		run.VolumeBack, run.APIBack, run.AssetKept, // nothing was wrong
		run.DiskLow, run.DiskLow, run.VolumeOffline, run.AssetGone, run.VolumeOffline,
	} {
		h.note(run.Event{Kind: k, Err: errors.New("why")})
	}
	want := []run.NoticeKind{run.NoRoomLeft, run.VolumeGone}
	if d := cmp.Diff(want, written(t, h)); d != "" {
		t.Error(d)
	}
	for _, k := range []run.EventKind{run.DiskBack, run.VolumeBack, run.VolumeBack, run.APIRefused, run.AtRisk, run.AtRisk, run.RiskOver, run.RunEnded, run.APIBack} {
		h.note(run.Event{Kind: k, Runs: []run.ID{"abcd"}, Count: 3, Took: time.Hour})
		written(t, h)
	}
	want = []run.NoticeKind{
		run.NoRoomLeft, run.VolumeGone, run.RoomAgain, run.VolumeOnline, run.KeyRefused,
		run.AssetsAtRisk, run.AssetsAtRisk, run.AssetsSafe, run.KeyAccepted,
	}
	if d := cmp.Diff(want, written(t, h)); d != "" {
		t.Error(d)
	}
}

func TestHooks_DropTroubleThatEndsBeforeItIsWritten(t *testing.T) {
	h := hooked(t, emptyQueue(t), aCommand)
	for range 2 * maxPending { // while the queue is full
		h.note(run.Event{Kind: run.DiskLow})
		h.note(run.Event{Kind: run.DiskBack})
		h.note(run.Event{Kind: run.AtRisk})
	}
	h.note(run.Event{Kind: run.VolumeOffline}) // never left out
	got := written(t, h)
	if len(got) != maxPending+1 || got[0] != run.AssetsAtRisk || got[maxPending] != run.VolumeGone {
		t.Errorf("%d notices: %v", len(got), got)
	}
}

func TestHooks_NextProcessReportsTheEnd(t *testing.T) {
	q := emptyQueue(t)
	h := hooked(t, q, aCommand)
	h.note(run.Event{Kind: run.VolumeOffline})
	written(t, h)
	next := hooked(t, q, aCommand)
	next.note(run.Event{Kind: run.VolumeOffline})
	next.note(run.Event{Kind: run.RunSettled})
	if d := cmp.Diff([]run.NoticeKind{run.VolumeGone, run.VolumeOnline}, written(t, next)); d != "" {
		t.Error(d)
	}
}

func TestHooks_RecordNothingWhileNoHookIsSet(t *testing.T) {
	q := emptyQueue(t)
	h := hooked(t, q)
	h.note(run.Event{Kind: run.VolumeOffline})
	if got := written(t, h); len(got) != 0 {
		t.Errorf("%v", got)
	}
	c, _, err := config.Load(config.Options{Set: []string{aCommand}, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.configure(c); err != nil {
		t.Fatal(err)
	}
	h.note(run.Event{Kind: run.VolumeOffline}) // as is emitted at every check
	if got := written(t, h); len(got) != 1 {
		t.Errorf("%v", got)
	}
	c.Hook.URL, c.Hook.SecretFile = "https://hooks.example", "/no/such/file"
	if err := h.configure(c); err == nil {
		t.Error("a secret that is not there was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.note(run.Event{Kind: run.VolumeBack})
	if err := h.run(ctx, 0); err != nil { // a stop writes what is pending
		t.Error(err)
	}
	if standing, err := q.Standing(t.Context()); err != nil || len(standing) != 0 {
		t.Errorf("%v, %v", standing, err)
	}
}

// A hook that hangs, whatever its time limit, costs a stop a second of its grace, and is
// run again under the same key.
func TestCase_D4_AHangingHookHoldsUpNoStop(t *testing.T) {
	q := emptyQueue(t)
	file := filepath.Join(t.TempDir(), "began")
	h := hooked(t, q, "hook.command=sh -c 'touch "+file+"; sleep 600'", "hook.timeout=24h")
	h.note(run.Event{Kind: run.VolumeOffline, Err: errors.New("why")})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx, 25*time.Second) }()
	for range 1000 {
		if _, err := os.Stat(file); err == nil {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	stop()
	select {
	case err := <-ended:
		if left := written(t, h); err != nil || len(left) != 1 {
			t.Errorf("%v, %v is left", err, left)
		}
	case <-time.After(10 * time.Second):
		t.Error("the stop waits for the hook")
	}
}
