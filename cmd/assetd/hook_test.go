package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// told is one thing that a receiver was told.
type told struct {
	key  string
	Type string
	Data struct {
		RunID    run.ID `json:"run_id"`
		State    string
		Dir      string
		Manifest string
		Stored   int
		Lost     int
		Labels   map[string]string
		Reason   string
	}
}

// receiver is an endpoint of Standard Webhooks that verifies what it is told, and
// answers as it is set.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	status int
	all    []told
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	verify, err := standardwebhooks.NewWebhook(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if err := verify.Verify(body, req.Header); err != nil {
			t.Error(err)
		}
		e := told{key: req.Header.Get("webhook-id")}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, e)
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// waitFor waits until so many of a kind were told, and returns all of that kind.
func (r *receiver) waitFor(n int, kind string) (found []told) {
	r.t.Helper()
	for range 1200 {
		r.mu.Lock()
		found = nil
		for _, e := range r.all {
			if e.Type == kind {
				found = append(found, e)
			}
		}
		r.mu.Unlock()
		if len(found) >= n {
			return found
		}
		pause(r.t, 25*time.Millisecond)
	}
	r.t.Fatalf("%d of %d %s were told", len(found), n, kind)
	return nil
}

// waitAccepted waits until so many drop files were taken.
func waitAccepted(t *testing.T, r *rig, n int) {
	t.Helper()
	for range 1200 {
		if taken, _ := os.ReadDir(filepath.Join(r.dir, "drop", "accepted")); len(taken) >= n {
			return
		}
		pause(t, 25*time.Millisecond)
	}
	t.Fatalf("not %d drop files were taken\n%s", n, tail(r.log.String(), 3000))
}

// hookScript is a program that keeps what it gets in files named by event and run.
func hookScript(t *testing.T, out, rest string) string {
	t.Helper()
	file := filepath.Join(out, "hook")
	script := "#!/bin/sh\nNAME=" + out + "/$ASSETD_EVENT.$ASSETD_RUN_ID\nenv >$NAME.env.tmp\ncat >$NAME.json\nmv $NAME.env.tmp $NAME.env\n" +
		"echo $ASSETD_IDEMPOTENCY_KEY >>$NAME.keys\n" + rest + "\n"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return file
}

// waitFile waits until a file is there, with at least so many lines.
func waitFile(t *testing.T, path string, lines int) string {
	t.Helper()
	for range 1200 {
		if text, err := os.ReadFile(path); err == nil && strings.Count(string(text), "\n") >= lines {
			return string(text)
		}
		pause(t, 25*time.Millisecond)
	}
	t.Fatalf("%s has not %d lines", path, lines)
	return ""
}

func TestACommandAndAURLAreToldOfASettledRun(t *testing.T) {
	t.Parallel()
	out, to := t.TempDir(), newReceiver(t)
	secret := filepath.Join(out, "secret")
	if err := os.WriteFile(secret, []byte(hookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []string{
		"hook.command=" + hookScript(t, out, "echo taken; echo 'see https://x.example/?token=plantedsecret' >&2") + " 'an argument'",
		"hook.url=" + to.URL + "/plantedsecret?plantedsecret", "hook.secret_file=" + secret, "download.give_up_after=300ms",
	})
	for id, opts := range map[run.ID][]simulator.RunOption{
		"hook000001": {simulator.App("app1"), simulator.Image("a", 9000), simulator.Image("b", 9000)},
		"hook000002": {simulator.App("app1"), simulator.Image("a", 9000), simulator.Image("gone", 9000, simulator.Status(404))},
	} {
		if err := r.sim.AddRun(id, opts...); err != nil {
			t.Fatal(err)
		}
	}
	p := r.start().ready()
	plant(t, filepath.Join(r.dir, "drop", "x.json"), `{"run_ids": ["hook000001", "hook000002"], "labels": {"shot": "12"}}`)
	env := waitFile(t, filepath.Join(out, "run.stored.hook000001.env"), 5)
	dir := filepath.Join(r.dir, "assets", "app1", "hook000001")
	for _, want := range []string{
		"ASSETD_EVENT=run.stored\n", "ASSETD_RUN_ID=hook000001\n", "ASSETD_APP_ID=app1\n", "ASSETD_STATE=stored\n", "ASSETD_DIR=" + dir + "\n",
		"ASSETD_MANIFEST=" + dir + "/manifest.json\n", "ASSETD_LABEL_SHOT=12\n", "ASSETD_IDEMPOTENCY_KEY=",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("not in the environment: %s\n%s", want, env)
		}
	}
	if strings.Contains(env, r.sim.Key()) || strings.Contains(env, "API_KEY") {
		t.Errorf("the key is in the environment:\n%s", env)
	}
	in, err := os.ReadFile(filepath.Join(out, "run.stored.hook000001.json"))
	var e told
	if err := json.Unmarshal(in, &e); err != nil || e.Type != "run.stored" || e.Data.Stored != 2 || e.Data.Dir != dir {
		t.Errorf("%s: %v", in, err)
	}
	if err != nil {
		t.Error(err)
	}

	stored := to.waitFor(1, "run.stored")
	if d := stored[0].Data; len(stored) != 1 || d.RunID != "hook000001" || d.Labels["shot"] != "12" || d.Manifest != dir+"/manifest.json" {
		t.Errorf("%+v", stored)
	}
	lost, partial := to.waitFor(1, "asset.lost"), to.waitFor(1, "run.partial")
	if lost[0].Data.RunID != "hook000002" || partial[0].Data.Lost != 1 || partial[0].Data.Stored != 1 {
		t.Errorf("%+v, %+v", lost, partial)
	}
	waitFile(t, filepath.Join(out, "run.partial.hook000002.env"), 5)
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	log := r.log.String()
	if !strings.Contains(log, "taken") || !strings.Contains(log, "see https://x.example/") || strings.Contains(log, "plantedsecret") || strings.Contains(log, "MfKQ9r8G") {
		t.Errorf("its output is not in the log, or a secret is:\n%s", tail(log, 4000))
	}
}

// A hook that fails, and one that hangs, hold up nothing; after a restart it is told
// again, under the key that it had.
func TestAHookThatAlwaysFailsHoldsUpNothingAndIsToldAgainAfterARestart(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	out, to := t.TempDir(), newReceiver(t)
	secret := filepath.Join(out, "secret")
	if err := os.WriteFile(secret, []byte(hookSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	to.answers(http.StatusInternalServerError)
	r := newRig(t, []string{
		"hook.command=" + hookScript(t, out, "test -e "+out+"/works || sleep 600"), "hook.url=" + to.URL, "hook.secret_file=" + secret, "shutdown_grace=1s",
	})
	const n = 30
	var ids []run.ID
	for i := range n {
		id := run.ID(fmt.Sprintf("fails%05d", i))
		if err := r.sim.AddRun(id, simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(n, time.Minute)
	failed := to.waitFor(3, "run.stored")
	hung := waitFile(t, filepath.Join(out, "run.stored."+string(failed[0].Data.RunID)+".keys"), 1)
	if code := p.stop(); code != exitDone { // it kills those that hang
		t.Errorf("exit %d\n%s", code, tail(r.log.String(), 2000))
	}
	plant(t, filepath.Join(out, "works"), "")
	to.answers(http.StatusOK)
	to.mu.Lock()
	before := len(to.all)
	to.mu.Unlock()
	p = r.start().ready()
	to.waitFor(before+n, "run.stored")
	to.mu.Lock()
	keys := map[run.ID]string{}
	for _, e := range to.all[before:] {
		if keys[e.Data.RunID] != "" {
			t.Errorf("%s was told twice", e.Data.RunID)
		}
		keys[e.Data.RunID] = e.key
	}
	to.mu.Unlock()
	for _, e := range failed {
		if keys[e.Data.RunID] != e.key {
			t.Errorf("%s: key %s, then %s", e.Data.RunID, e.key, keys[e.Data.RunID])
		}
	}
	again := waitFile(t, filepath.Join(out, "run.stored."+string(failed[0].Data.RunID)+".keys"), 2)
	if again != hung+hung || strings.TrimSpace(hung) != failed[0].key {
		t.Errorf("keys %q, at first %q", again, hung)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	r.judgeEnd(ids)
}

// A volume that goes and comes back is told as such, also where a restart lies
// between; and a hook that a reload sets is told from then on.
func TestAVolumeThatGoesAndComesBackIsTold(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	out, to := t.TempDir(), newReceiver(t)
	plant(t, filepath.Join(out, "secret"), hookSecret)
	r := newRig(t, []string{})
	plant(t, filepath.Join(r.dir, "key"), r.sim.Key())
	file := filepath.Join(r.dir, "assetd.yaml")
	key := "api: {key_file: " + filepath.Join(r.dir, "key") + "}\n"
	hook := "hook: {url: '" + to.URL + "', secret_file: " + filepath.Join(out, "secret") + "}\n"
	plant(t, file, key)
	for _, id := range []run.ID{"volume0001", "volume0002"} {
		if err := r.sim.AddRun(id, simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
			t.Fatal(err)
		}
	}
	p := r.launch(r.withFile(file, "run")).ready()
	r.handIn([]run.ID{"volume0001"})
	r.waitSettled(1, time.Minute)
	p.reload(file, key+hook, "configuration and key read again")

	marker := filepath.Join(r.dir, "assets", ".assetd", "volume")
	aside := filepath.Join(r.dir, "marker")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(marker, aside)
	if gone := to.waitFor(1, "volume.offline"); !strings.Contains(gone[0].Data.Reason, "volume offline") {
		t.Errorf("%+v", gone)
	}
	p.stop()
	p = r.launch(r.withFile(file, "run")) // not ready while the volume is away
	r.handIn([]run.ID{"volume0002"})
	waitAccepted(t, r, 2)
	move(aside, marker)
	to.waitFor(1, "volume.online")
	stored := to.waitFor(1, "run.stored")
	if len(stored) != 1 || stored[0].Data.RunID != "volume0002" {
		t.Errorf("also told of what was before it was set: %+v", stored)
	}
	move(marker, aside)
	to.waitFor(2, "volume.offline")
	move(aside, marker)
	if n := len(to.waitFor(2, "volume.online")); n != 2 {
		t.Errorf("online %d times", n)
	}
	if n := len(to.waitFor(2, "volume.offline")); n != 2 {
		t.Errorf("offline %d times: told again after the restart", n)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

func TestAKeyThatIsRefusedAndTakenAgainIsTold(t *testing.T) {
	t.Parallel()
	out, to := t.TempDir(), newReceiver(t)
	plant(t, filepath.Join(out, "secret"), hookSecret)
	r := newRig(t, []string{"hook.url=" + to.URL, "hook.secret_file=" + filepath.Join(out, "secret")})
	key := filepath.Join(r.dir, "key")
	plant(t, key, "not-the-key")
	file := filepath.Join(r.dir, "assetd.yaml")
	text := "api: {key_file: " + key + "}\n"
	plant(t, file, text)
	if err := r.sim.AddRun("key0000001", simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
		t.Fatal(err)
	}
	p := r.launch(r.withFile(file, "run")).ready()
	r.handIn([]run.ID{"key0000001"})
	to.waitFor(1, "api.refused")
	plant(t, key, r.sim.Key())
	p.reload(file, text, "configuration and key read again")
	to.waitFor(1, "api.accepted")
	to.waitFor(1, "run.stored")
	if refused := to.waitFor(1, "api.refused"); len(refused) != 1 {
		t.Errorf("told %d times", len(refused))
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

func TestASecretThatCannotBeReadIsAConfigurationError(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"hook.url=https://hooks.example", "hook.secret_file=/no/such/secret"})
	_, stderr, code := r.output("run")
	if code != exitConfig || !strings.Contains(stderr, "hook.secret_file /no/such/secret") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
