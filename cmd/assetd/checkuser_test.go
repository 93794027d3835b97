package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assetd/assetd/internal/testenv"
)

// asNobody runs the binary as the user 65534, who is in the group gid.
func asNobody(t *testing.T, gid uint32, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := exec.LookPath("assetd")
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "assetd"), args...) // where that user reaches it
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"ASSETD_API_KEY=key", "HOME=" + dir, "PATH=" + os.Getenv("PATH")}, &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{gid}}}
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestCase_E10_CheckByAMemberOfTheGroupNamesTheDaemonsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to become another user")
	}
	t.Parallel()
	const daemon, group = 54321, 54322
	for name, c := range map[string]struct {
		owner int
		made  []string // below data_dir
		mode  os.FileMode
		ours  bool
	}{
		"before the first start": {daemon, []string{"drop"}, 0o750, false},
		"no directory yet":       {daemon, nil, 0o750, false},
		"after it":               {daemon, []string{"drop", "state", "assets"}, 0o750, false},
		"not in the group":       {daemon, []string{"state"}, 0o700, false},
		"the user's own":         {65534, []string{"drop"}, 0o750, true},
	} {
		dir := filepath.Join(shortDir(t), "data")
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, sub := range append([]string{""}, c.made...) {
			path := filepath.Join(dir, sub)
			if err := os.Mkdir(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, c.owner, group); err != nil {
				t.Fatal(err)
			}
		}
		out, stderr, code := asNobody(t, group, "check", "--offline", "--config", os.DevNull, "--set", "data_dir="+dir, "--set", "server.listen=", "--set", "storage.min_free=0B")
		if c.ours {
			if code != exitDone || strings.Contains(out, "sudo") {
				t.Errorf("%s: exit %d\n%s%s", name, code, out, stderr)
			}
			continue
		}
		if code != exitError || !strings.Contains(out, "is #54321's (uid 54321)") || !strings.Contains(out, "sudo -u #54321 assetd check") {
			t.Errorf("%s: exit %d, the daemon's user is not named\n%s%s", name, code, out, stderr)
		}
		for _, wrong := range []string{"have it", "give uid", "uid 65534 read", "drop.dir", "storage.dir", "choose another"} {
			if strings.Contains(out, wrong) {
				t.Errorf("%s: %q is wrong advice\n%s", name, wrong, out)
			}
		}
	}
}
