package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// token matches what is secret in a signed URL, in all forms of the simulator's,
// and what a test plants in a drop file.
var token = regexp.MustCompile(`(?i)hmac([=_]|%3d)[0-9a-f]{6}|signature=[0-9a-f]{6}|PLANTEDTOKEN`)

func TestNoKeyAndNoTokenIsFoundAnywhere(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	const key = "PLANTEDKEY0123456789abcdef"
	r := newRig(t, []string{"download.stall_timeout=1s", "download.give_up_after=2s", "shutdown_grace=2s"}, simulator.WithKey(key))
	settling, err := simulator.Demo(r.sim, 10)
	if err != nil {
		t.Fatal(err)
	}
	for id, opts := range leakyRuns() {
		if err := r.sim.AddRun(id, opts...); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(id), "open") {
			settling = append(settling, id)
		}
	}
	p := r.start().ready()
	plant(t, filepath.Join(r.dir, "drop", "urls.txt"), "https://cdn.example/a.png?token=exp=1~hmac=PLANTEDTOKEN\nopen000001\n")
	plant(t, filepath.Join(r.dir, "drop", "bad.json"), `{"run_id": "https://cdn.example/b?hmac=PLANTEDTOKEN", "labels": {"u": "https://x/?hmac=PLANTEDTOKEN"}}`)
	plant(t, filepath.Join(r.dir, "drop", "labels.json"), `{"run_id": "open000002", "labels": {"u": "https://x/?hmac=PLANTEDTOKEN"}}`)
	r.handIn(settling)
	r.waitSettled(len(settling), 2*time.Minute)
	t.Log("settled", time.Now().Format(time.TimeOnly))

	// While runs are open, their tokens stand in answers/ and nowhere else.
	r.noSecretOnDisk(key)
	r.tokensInAnswers()
	for _, args := range [][]string{
		{"list"},
		{"list", "--json"},
		{"config"},
		{"check"},
		{"health"},
		{"health", "--ready"},
		{"version"},
		{"show", "open000001"},
		{"show", "--json", "open000001"},
		{"show", "--json", "lost000001"},
		{"show", "lost000001"},
		{"get", "-o", filepath.Join(r.dir, "got"), "--timeout", "5s", string(settling[0]), "lost000001"},
		{"add", "https://cdn.example/b?hmac=PLANTEDTOKEN"},
	} {
		out, errs, _ := r.output(args...)
		r.noSecret("assetd "+strings.Join(args[:1], " ")+" on stdout", out, key)
		if args[0] != "add" { // it quotes what its user has just typed
			r.noSecret("assetd "+strings.Join(args, " ")+" on stderr", errs, key)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		r.noSecret(path, r.page(path), key)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.noSecretOnDisk(key)
	r.noSecret("the log", r.log.String(), key)
	for _, leak := range r.sim.Leaks() {
		t.Errorf("sent where it must not go: %v", leak)
	}
}

// leakyRuns fail in ways whose messages could hold a URL.
func leakyRuns() map[run.ID][]simulator.RunOption {
	secret := "see https://cdn.example/x?hmac=PLANTEDTOKEN&y=1 and more"
	return map[run.ID][]simulator.RunOption{
		"open000001": {simulator.Running(time.Hour)},
		"open000002": {simulator.Timeline(simulator.Phase{Status: run.Running, Lists: true}), simulator.Image("early", 9000, simulator.Stall(100))},
		"text000001": {simulator.Ends(run.Failed), simulator.ErrorMessage(secret)},
		"lost000001": {
			simulator.Image("gone", 9000, simulator.Status(410)),
			simulator.Image("html", 9000, simulator.HTML()),
			simulator.Image("away", 9000, simulator.RedirectTo("http://169.254.169.254/latest?hmac=PLANTEDTOKEN")),
			simulator.Image("loop", 9000, simulator.RedirectLoop()),
			simulator.Image("evil", 9000, simulator.ListedURL("http://10.0.0.1/a.png?token=exp=1~hmac=PLANTEDTOKEN")),
			simulator.Image("odd", 9000, simulator.Told("tool", secret), simulator.Told("note", secret)),
		},
	}
}

func plant(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noSecretOnDisk reads every file and every name below the data directory.
func (r *rig) noSecretOnDisk(key string) {
	r.t.Helper()
	files := 0
	err := filepath.WalkDir(r.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it was renamed away while we walked
		}
		r.noSecret("a file name", e.Name(), key)
		if !e.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		files++
		text := string(data)
		if strings.Contains(text, key) {
			r.t.Errorf("the key is in %s", path)
		}
		dir := filepath.Base(filepath.Dir(path))
		if dir == "answers" || dir == "accepted" || dir == "rejected" && !strings.HasSuffix(path, ".error") {
			return nil // answers hold tokens while their run is open; drop files are their writers' own
		}
		r.noSecret(path, text, key)
		return nil
	})
	if err != nil || files < 50 {
		r.t.Errorf("%d files read: %v", files, err)
	}
}

// tokensInAnswers proves that this test would see a token: there the open runs'
// are.
func (r *rig) tokensInAnswers() {
	r.t.Helper()
	found := false
	entries, err := os.ReadDir(filepath.Join(r.dir, "state", "answers"))
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(r.dir, "state", "answers", e.Name()))
		found = found || token.Match(data)
	}
	if !found {
		r.t.Errorf("no token in %d answers of open runs: %v", len(entries), err)
	}
}

func (r *rig) noSecret(where, text, key string) {
	r.t.Helper()
	if strings.Contains(text, key) {
		r.t.Errorf("the key is in %s", where)
	}
	if at := token.FindStringIndex(text); at != nil {
		r.t.Errorf("a token is in %s: …%.120q", where, text[max(0, at[0]-60):])
	}
}
