package main

import (
	"crypto/md5" //nolint:gosec // nginx's secure_link signs with it
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// nginxConf serves files whose signed URLs die, and drops a client that has taken
// nothing for send_timeout. It takes directory, address and secret.
const nginxConf = `
daemon off;
worker_processes 1;
error_log %[1]s/error.log;
pid %[1]s/pid;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/tmp1;
  proxy_temp_path %[1]s/tmp2;
  fastcgi_temp_path %[1]s/tmp3;
  uwsgi_temp_path %[1]s/tmp4;
  scgi_temp_path %[1]s/tmp5;
  sendfile on;
  send_timeout 10s;
  server {
    listen %[2]s;
    root %[1]s/files;
    secure_link $arg_md5,$arg_expires;
    secure_link_md5 "$secure_link_expires$uri %[3]s";
    if ($secure_link != "1") { return 403; }
  }
}
`

const nginxSecret = "not much of a secret"

// nginx serves files of a directory of its own.
type nginx struct{ dir, addr string }

func startNginx(t *testing.T) *nginx {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		testenv.Missing(t, "nginx (Debian: nginx-light)")
	}
	n := &nginx{dir: t.TempDir(), addr: freeAddr(t)}
	if err := os.Chmod(filepath.Dir(n.dir), 0o755); err != nil { // its workers may be nobody
		t.Fatal(err)
	}
	conf := filepath.Join(n.dir, "nginx.conf")
	text := fmt.Sprintf(nginxConf, n.dir, n.addr, nginxSecret)
	if os.Getuid() == 0 {
		text = "user root;\n" + text // the files are in a directory of ours
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(n.dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-p", n.dir, "-c", conf, "-e", filepath.Join(n.dir, "error.log"))
	out := &buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
		cmd.Wait()                       //nolint:errcheck // as above
	})
	for range 200 {
		if c, err := net.Dial("tcp", n.addr); err == nil {
			c.Close()
			return n
		}
		pause(t, 50*time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(n.dir, "error.log"))
	t.Fatalf("nginx does not listen on %s\n%s%s", n.addr, out, log)
	return nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// put makes a file and returns its sum.
func (n *nginx) put(t *testing.T, name string, size int, dice *rand.ChaCha8) (sum string) {
	t.Helper()
	data := make([]byte, size)
	dice.Read(data)
	copy(data, "\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom")
	if err := os.WriteFile(filepath.Join(n.dir, "files", name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return hash(data)
}

// sign is the URL of a file, good until a moment.
func (n *nginx) sign(name string, dies time.Time) string {
	sum := md5.Sum(fmt.Appendf(nil, "%d/%s %s", dies.Unix(), name, nginxSecret)) //nolint:gosec // as above
	return fmt.Sprintf("http://%s/%s?md5=%s&expires=%d", n.addr, name, base64.RawURLEncoding.EncodeToString(sum[:]), dies.Unix())
}

// cliff lets the daemon fetch files over a narrow line whose URLs all die in the same
// second, and returns how many it saved.
func cliff(t *testing.T, n *nginx, settings ...string) (saved, all int) {
	t.Helper()
	const (
		rate  = 4 << 20
		files = 48
		each  = 5 // in a run
	)
	r := newRig(t, append([]string{"log.level=info", fmt.Sprintf("download.max_rate=%d", rate)}, settings...))
	var ids []run.ID
	right := map[string]bool{}
	dice := rand.NewChaCha8([32]byte{7})
	var names []string
	for i := range files {
		size := 300 << 10
		if i%8 > 0 {
			size = 2<<20 + i<<10
		}
		names = append(names, fmt.Sprintf("%s%d.mp4", t.Name(), i))
		right[n.put(t, names[i], size, dice)] = true
	}
	dies := time.Now().Add(10 * time.Second)
	for len(names) > 0 {
		id := run.ID(fmt.Sprintf("cliff%05d", len(ids)))
		var assets []simulator.RunOption
		for i := range min(each, len(names)) {
			assets = append(assets, simulator.Video(fmt.Sprintf("v%d", i), 100_000, simulator.ListedURL(n.sign(names[i], dies))))
		}
		names = names[min(each, len(names)):]
		if err := r.sim.AddRun(id, assets...); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	p := r.start().ready()
	r.handIn(ids)
	r.waitSettled(len(ids), 3*time.Minute)
	if code := p.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	saved = r.whole(right)
	t.Logf("%d of %d saved; %s", saved, files, strings.Join(settings, " "))
	if testing.Verbose() {
		t.Log(tail(r.log.String(), 3000))
	}
	return saved, files
}

// What was measured of a real server: it judges the start of a request alone, and
// a trickle keeps a response alive past its send_timeout.
func TestNginxFinishesWhatWasBegunBeforeItsURLDied(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	n := startNginx(t)
	if saved, all := cliff(t, n); saved < all {
		t.Errorf("%d of %d saved", saved, all)
	}
	if saved, all := cliff(t, n, "download.max_open=0"); saved >= all {
		t.Errorf("all of %d are saved without holding any: this shows nothing", all)
	}
}
