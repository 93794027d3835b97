package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// elsewhere are programs that this test cannot run: they change the machine, build, or run
// tests. deploy/test and .ci/run do these things.
var elsewhere = []string{".ci/run", "apt", "deploy/package", "docker", "go", "install", "rsync"}

// isRunHere reports whether the test runs a block: not one of elsewhere, a script to be
// saved as a file, or one that is about a drop directory with files in it.
func (b block) isRunHere() bool {
	if strings.HasPrefix(b.text, "#!") || strings.HasPrefix(b.text, "rm rejected/") {
		return false
	}
	return !slices.ContainsFunc(commandsOf(b.text), func(words []string) bool { return slices.Contains(elsewhere, words[0]) })
}

// service does what systemctl does with the unit of assetd, for a daemon whose process ID
// is in $PIDFILE. A process that has ended can be a zombie, if nobody waits for it.
const service = `#!/bin/bash -e
stop() {
  kill "$(cat "$PIDFILE")"
  while grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$(cat "$PIDFILE")/status" 2>/dev/null; do sleep 0.05; done
}
start() {
  assetd run & echo $! >"$PIDFILE"
  until assetd health --ready; do sleep 0.05; done
}
case $1 in
start | stop) $1 ;;
restart) stop; start ;;
reload) kill -HUP "$(cat "$PIDFILE")" ;;
status) ;;
*) exit 2 ;;
esac
`

// substituted returns a block with the paths, address, key and run ID of a rig.
func (r *rig) substituted(b block, addr string, id run.ID) string {
	return strings.NewReplacer(
		"assetd run &", "systemctl start assetd",
		"curl -N ", "curl -N --max-time 1 ",
		"ASSETD_API_KEY=…", "ASSETD_API_KEY="+r.sim.Key(),
		"127.0.0.1:7433", addr, "/var/lib/assetd/state", filepath.Join(r.dir, "state"),
		"/var/lib/node_exporter/textfile", r.dir,
		"RUN-ID", string(id), "omps2OH829", string(id),
	).Replace(b.text)
}

// Every block that needs neither root nor a build is run as it is on the page, against
// the simulator, and with a stand-in for systemctl.
func TestDocuments_CommandsDoWhatThePagesSay(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Missing(t, program)
		}
	}
	addr := freeAddr(t)
	r := newRig(t, []string{"server.listen=" + addr})
	const id = "good000001"
	if err := r.sim.AddRun(id, simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
		t.Fatal(err)
	}
	plantProgram(t, filepath.Join(r.dir, "bin", "systemctl"), service)
	plantProgram(t, filepath.Join(r.dir, "bin", "journalctl"), "#!/bin/sh\n")
	var first, rest, last []block
	for _, b := range shellBlocks(t) {
		switch {
		case !b.isRunHere():
		case strings.Contains(b.text, "assetd run &"):
			first = append(first, b)
		case strings.Contains(b.text, "--adopt-volume"):
			last = append(last, b)
		default:
			rest = append(rest, b)
		}
	}
	if len(first) != 1 || len(last) != 1 || len(rest) < 13 {
		t.Fatalf("%d, %d and %d blocks are run", len(first), len(rest), len(last))
	}
	t.Cleanup(func() {
		exec.Command("bash", "-c", "kill -9 $(cat "+r.dir+"/pid)").Run() //nolint:errcheck // it should have ended
	})
	stop := block{"this test", "systemctl stop assetd"}
	for _, b := range slices.Concat(first, rest, []block{stop}, last) {
		r.bash(b, addr, id)
	}
}

func plantProgram(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// bash runs a block with the rig's settings in the environment.
func (r *rig) bash(b block, addr string, id run.ID) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", r.substituted(b, addr, id))
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "ASSETD_CONFIG="+os.DevNull, "ASSETD_API_KEY="+r.sim.Key(),
		"PIDFILE="+filepath.Join(r.dir, "pid"), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"))
	for _, s := range r.settings {
		name, value, _ := strings.Cut(s, "=")
		cmd.Env = append(cmd.Env, "ASSETD_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+value)
	}
	out, err := os.CreateTemp(r.dir, "out-") // a file: the daemon holds it open
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	ended := strings.Contains(b.text, "curl -N") && cmd.ProcessState.ExitCode() == 28 // its time was over
	if err != nil && !ended {
		text, _ := os.ReadFile(out.Name())
		r.t.Errorf("%s: %v:\n%s%s", b.page, err, b.text, text)
	}
}

func TestDocuments_TheHookOfTheInterfacesPageWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, b := range shellBlocks(t) {
		if strings.HasPrefix(b.text, "#!") {
			plantProgram(t, filepath.Join(dir, "hook"), strings.ReplaceAll(b.text, "/mnt/edit", dir+"/edit"))
		}
	}
	plantProgram(t, filepath.Join(dir, "run", "manifest.json"), "{}")
	plantProgram(t, filepath.Join(dir, "edit", "12", "there"), "")
	plantProgram(t, filepath.Join(dir, "bin", "mail"), "#!/bin/sh\ncat >"+dir+"/mailed\n")
	for _, event := range []string{"run.stored", "asset.lost"} {
		cmd := exec.Command(filepath.Join(dir, "hook"))
		cmd.Env = []string{
			"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "ASSETD_EVENT=" + event, "ASSETD_RUN_ID=good000001", "ASSETD_TEXT=404",
			"ASSETD_DIR=" + dir + "/run", "ASSETD_LABEL_SHOT=12",
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", event, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "edit", "12", "run", "manifest.json")); err != nil {
		t.Error(err)
	}
	if mail, err := os.ReadFile(filepath.Join(dir, "mailed")); string(mail) != "asset.lost good000001 404\n" {
		t.Errorf("mailed %q, %v", mail, err)
	}
}
