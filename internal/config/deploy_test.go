package config

import (
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// directives are a systemd unit's, by name; one that stands there several times
// has several values.
func directives(t *testing.T, path string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if name, text, ok := strings.Cut(line, "="); ok && line[0] != '#' {
			found[name] = append(found[name], text)
		}
	}
	return found
}

const unitFile = "../../deploy/systemd/assetd.service"

func TestUnitLeavesTimeForTheWholeStop(t *testing.T) {
	c, _, err := Load(Options{File: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	stop := directives(t, unitFile)["TimeoutStopSec"]
	if len(stop) != 1 {
		t.Fatalf("TimeoutStopSec is %q", stop)
	}
	d, err := time.ParseDuration(stop[0])
	if err != nil || d < c.ShutdownGrace+stopMargin {
		t.Errorf("TimeoutStopSec is %s (%v), shutdown_grace %v: it must be %v longer", stop[0], err, c.ShutdownGrace, stopMargin)
	}
	if d != unitStopTime {
		t.Errorf("TimeoutStopSec is %v, and the warning of a long shutdown_grace goes by %v", d, unitStopTime)
	}
}

// Whoever does what page and unit say has the binary where the unit looks for it.
func TestWhereTheBinaryGoesIsWhereTheUnitLooks(t *testing.T) {
	path, _, _ := strings.Cut(directives(t, unitFile)["ExecStart"][0], " ")
	for file, line := range map[string]string{
		"../../deploy/README.md": "go build -trimpath -o " + path + " ./cmd/assetd\n",
		unitFile:                 "#   install -m 755 assetd " + path + "\n",
	} {
		if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), line) {
			t.Errorf("%s: %v, no line with %q", file, err, line)
		}
	}
}

func TestUnitIsTheAgreedOne(t *testing.T) {
	got := directives(t, unitFile)
	for name, want := range map[string]string{
		"Type": "notify", "User": "assetd", "Group": "assetd", "StateDirectory": "assetd", "StateDirectoryMode": "0750",
		"LoadCredential": "api-key:/etc/assetd/api-key", "SetCredential": `api-key:\n`, "Restart": "always", "RestartPreventExitStatus": "78",
		"SystemCallErrorNumber": "EPERM", "SystemCallFilter": "@system-service ~@privileged @resources", "SystemCallArchitectures": "native",
		"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
		"ProtectSystem": "strict", "DevicePolicy": "closed", "ProtectProc": "invisible",
		"ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateMounts": "yes", "NoNewPrivileges": "yes",
		"ProtectClock": "yes", "ProtectHostname": "yes", "ProtectControlGroups": "yes", "ProtectKernelLogs": "yes",
		"ProtectKernelModules": "yes", "ProtectKernelTunables": "yes", "RestrictNamespaces": "yes", "RestrictRealtime": "yes",
		"LockPersonality": "yes", "MemoryDenyWriteExecute": "yes", "RemoveIPC": "yes",
		"LimitNOFILE": "65536", "MemoryMax": "1G",
	} {
		if values, ok := got[name]; !ok || strings.Join(values, " ") != want {
			t.Errorf("%s is %q, want %q", name, values, want)
		}
	}
	for _, name := range []string{"DynamicUser", "ExecStartPre", "RestrictSUIDSGID"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is set: see the unit's comments", name)
		}
	}
	if watchdog := got["WatchdogSec"]; len(watchdog) != 1 {
		t.Errorf("WatchdogSec is %q", watchdog)
	}
}

func TestContainerStopsWithinWhatDockerGives(t *testing.T) {
	for _, c := range []struct {
		file, grace, kill string
		gap               time.Duration
	}{
		{"../../Dockerfile", `ASSETD_SHUTDOWN_GRACE=(\w+)`, `docker stop kills after (10)`, 2 * time.Second},
		{"../../deploy/compose.yaml", `ASSETD_SHUTDOWN_GRACE: (\w+)`, `stop_grace_period: (\w+)`, stopMargin},
	} {
		data, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		find := func(pattern string) time.Duration {
			m := regexp.MustCompile(pattern).FindSubmatch(data)
			if m == nil {
				t.Fatalf("%s: no %s", c.file, pattern)
			}
			d, err := time.ParseDuration(strings.TrimSuffix(string(m[1]), "s") + "s")
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		if grace, kill := find(c.grace), find(c.kill); kill < grace+c.gap {
			t.Errorf("%s: killed after %v, shutdown_grace %v: %v more are needed", c.file, kill, grace, c.gap)
		}
	}
}

// What the compose file publishes is this machine's alone, and a daemon that is asked from
// outside its container has a token.
func TestCase_E13_TheComposeFilePublishesMetricsAndAPIWithAToken(t *testing.T) {
	data, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Environment    map[string]string
			Ports, Secrets []string
		}
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	s := file.Services["assetd"]
	environ := []string{"HOME=/home/x"}
	for name, value := range s.Environment {
		environ = append(environ, name+"="+value)
	}
	c, _, err := Load(Options{File: "/dev/null", Environ: environ, UID: 65532})
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(c.Server.Listen)
	if err != nil || host != "0.0.0.0" {
		t.Errorf("server.listen %q is not reached from outside the container: %v", c.Server.Listen, err)
	}
	if want := []string{"127.0.0.1:7433:" + port}; !slices.Equal(s.Ports, want) {
		t.Errorf("ports %q, want %q", s.Ports, want)
	}
	for _, path := range []string{c.Server.TokenFile, c.API.KeyFile} {
		name := strings.TrimPrefix(path, "/run/secrets/")
		if name == path || !slices.Contains(s.Secrets, name) || file.Secrets[name].File == "" {
			t.Errorf("%q is no secret that the container gets: %v, %v", path, s.Secrets, file.Secrets)
		}
	}
	page, err := os.ReadFile("../../deploy/README.md")
	if err != nil || !strings.Contains(string(page), `curl -H "Authorization: Bearer $(cat deploy/token)" http://127.0.0.1:7433/metrics`) {
		t.Errorf("deploy/README.md does not show how to ask it: %v", err)
	}
}

// The limits of the container are those of the unit.
func TestCase_G1_UnitAndContainerBoundDescriptorsAndMemory(t *testing.T) {
	unit := directives(t, unitFile)
	data, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, pattern := range map[string]string{"LimitNOFILE": `(?m)^ +nofile: (\w+)$`, "MemoryMax": `(?m)^ +mem_limit: (\w+)$`} {
		m := regexp.MustCompile(pattern).FindSubmatch(data)
		if m == nil || len(unit[name]) != 1 || !strings.EqualFold(string(m[1]), unit[name][0]) {
			t.Errorf("%s is %q in the unit and %s in the container", name, unit[name], m)
		}
	}
}

// What the files of deploy set must be variables that exist.
func TestContainersSetVariablesThatExist(t *testing.T) {
	known := map[string]bool{"ASSETD_API_KEY": true}
	for _, k := range table() {
		known[k.envName()] = true
	}
	names := map[string]bool{}
	for _, file := range []string{"../../Dockerfile", "../../deploy/compose.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`ASSETD_[A-Z_]+`).FindAllString(string(data), -1) {
			names[name] = true
		}
	}
	if len(names) < 4 {
		t.Fatalf("only %v found", names)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !known[name] {
			t.Errorf("%s sets nothing", name)
		}
	}
}
