package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/pipeline"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

// machine is a data directory with a path short enough for a socket.
func machine(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "assetd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// checks are what Run returns of a machine, by what they are about. Whatever is
// bad must come with what to do.
func checks(t *testing.T, data, key string, set ...string) map[string]Check {
	t.Helper()
	c, _, err := config.Load(config.Options{File: os.DevNull, Set: append([]string{"data_dir=" + data, "server.listen="}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	var keyErr error
	if key == "" {
		keyErr = config.ErrNoKey
	}
	found := map[string]Check{}
	for _, f := range Run(t.Context(), c, key, keyErr, key == "offline") {
		if f.Grade == Bad && f.Hint == "" {
			t.Errorf("%s is bad without a hint: %s", f.About, f.Text)
		}
		if _, twice := found[f.About]; twice {
			t.Errorf("two results about %s", f.About)
		}
		found[f.About] = f
	}
	return found
}

func (f Check) is(t *testing.T, grade Grade, text string) {
	t.Helper()
	if f.Grade != grade || !strings.Contains(f.Text, text) {
		t.Errorf("%s %s: %q, want %s with %q", f.Grade, f.About, f.Text, grade, text)
	}
}

func TestRun_ChangesNothing(t *testing.T) {
	data := machine(t)
	found := checks(t, data, "offline")
	for _, about := range []string{"state.dir", "drop.dir", "storage.dir", "room"} {
		found[about].is(t, Good, "")
	}
	for _, about := range []string{"API", "clock"} {
		found[about].is(t, Note, "--offline")
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestRun_ChecksAVolumeThatWasNeverUsed(t *testing.T) {
	data := machine(t)
	plain, foreign, file := filepath.Join(data, "plain"), filepath.Join(data, "foreign"), filepath.Join(data, "file")
	for _, dir := range []string{plain, filepath.Join(foreign, ".assetd")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{file: "", filepath.Join(foreign, ".assetd", "volume"): `{"volume":"v1","queue":"q1"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		set   []string
		about string
		grade Grade
		text  string
	}{
		"there":                     {[]string{"storage.dir=" + plain}, "storage.dir", Good, "the first start takes it into use"},
		"its room":                  {[]string{"storage.dir=" + plain}, "room", Good, "above storage.min_free"},
		"too little room":           {[]string{"storage.dir=" + plain, "storage.min_free=4EiB"}, "room", Bad, "missing to storage.min_free (4.0 EiB)"},
		"too little room, not made": {[]string{"storage.min_free=4EiB"}, "room", Bad, "missing to storage.min_free (4.0 EiB)"},
		"not mounted":               {[]string{"storage.dir=" + plain, "storage.mounted=true"}, "storage.dir", Bad, "nothing is mounted at " + plain},
		"the default, not mounted":  {[]string{"storage.mounted=true"}, "storage.dir", Bad, "is not there"},
		"missing":                   {[]string{"storage.dir=" + plain + "/x"}, "storage.dir", Bad, "is not there"},
		"another's":                 {[]string{"storage.dir=" + foreign}, "storage.dir", Bad, "is volume v1 of queue q1"},
		"a file":                    {[]string{"storage.dir=" + file}, "storage.dir", Bad, file},
		"drop.dir is a file":        {[]string{"drop.dir=" + file}, "drop.dir", Bad, "is not a directory"},
		"state.dir below a file":    {[]string{"state.dir=" + file + "/x"}, "state.dir", Bad, file + " is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			checks(t, data, "offline", c.set...)[c.about].is(t, c.grade, c.text)
		})
	}
}

func TestRun_SaysOfTheAPINoMoreThanWasProven(t *testing.T) {
	now := func() string { return time.Now().UTC().Format(http.TimeFormat) }
	at := func(ahead time.Duration) string { return time.Now().Add(ahead).UTC().Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		status     int
		date       string
		api, clock Grade
		say, time  string
	}{
		"no such run":       {404, now(), Note, Good, "URL and path are not proven yet", "from 127.0.0.1"},
		"wrong key":         {401, now(), Bad, Good, "unauthorized (HTTP 401)", "from"},
		"no access":         {403, now(), Bad, Good, "forbidden", "from"},
		"too many requests": {429, now(), Note, Good, "did not judge the key", "from"},
		"trouble":           {503, now(), Bad, Good, "server error", "from"},
		"odd ID refused":    {400, now(), Note, Good, "answers 400 to a run that nobody has", "from"},
		"redirect":          {302, now(), Bad, Good, "unusable answer", "from"},
		"ahead by minutes":  {404, at(-10 * time.Minute), Note, Note, "", "ahead of"},
		"behind by minutes": {404, at(10 * time.Minute), Note, Note, "", "behind"},
		"behind by years":   {404, at(5 * 365 * 24 * time.Hour), Note, Bad, "", "behind"},
		"no date":           {404, "", Note, Note, "", "without a date"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Date"] = nil
				if c.date != "" {
					w.Header().Set("Date", c.date)
				}
				w.WriteHeader(c.status)
			}))
			defer srv.Close()
			found := checks(t, machine(t), "planted", "api.base_url="+srv.URL)
			found["API"].is(t, c.api, c.say)
			found["clock"].is(t, c.clock, c.time)
			if f := found["API"]; strings.Contains(f.Text+f.Hint, "planted") {
				t.Errorf("the key is shown: %+v", f)
			}
		})
	}
	srv := httptest.NewServer(nil)
	srv.Close()
	found := checks(t, machine(t), "planted", "api.base_url="+srv.URL)
	found["API"].is(t, Bad, "unreachable")
	found["clock"].is(t, Note, "not compared: the API was not reached")
	found = checks(t, machine(t), "")
	found["API"].is(t, Bad, "there is no key")
	found["clock"].is(t, Note, "for lack of a key")
}

func TestCheckBelievesAPathThatHasAnsweredBefore(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	data := machine(t)
	c, _, err := config.Load(config.Options{File: os.DevNull, Set: []string{"data_dir=" + data, "api.base_url=" + srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	proveQueue(t, c, "planted")
	checks(t, data, "planted", "api.base_url="+srv.URL)["API"].is(t, Good, "has answered for a run")
	checks(t, data, "another", "api.base_url="+srv.URL)["API"].is(t, Note, "not proven yet")
	checks(t, data, "planted", "api.base_url="+srv.URL, "api.runs_path=/v1/ai/flows/runs")["API"].is(t, Note, "not proven yet")
}

// proveQueue makes a queue for which the API has answered.
func proveQueue(t *testing.T, c *config.Config, key string) {
	t.Helper()
	if err := pipeline.MakeStateDir(c.State.Dir); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(c.State.Dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := magnific.New(pipeline.APIConfig(c), key, clock.New(), func(run.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Prove(context.Background(), api.Fingerprint(q.ID())); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestVolumeHint_NamesWhatToDo(t *testing.T) {
	d := &doctor{cfg: &config.Config{}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("x: %w", unix.EROFS), "mount it writable"},
		{fmt.Errorf("x: %w", fs.ErrPermission), "read and write permission on /vol"},
		{run.ErrVolumeOffline, "mount the right volume there, or make the directory"},
	} {
		if got := d.volumeHint("/vol", c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q in it", c.err, got, c.want)
		}
	}
}

// A systemd credential is seen by the service alone: a person who checks the machine
// has no key, and the machine is ready all the same.
func TestRun_AcceptsAKeyThatOnlyTheDaemonHas(t *testing.T) {
	data := machine(t)
	found := checks(t, data, "")
	found["key"].is(t, Bad, "there is none")
	found["API"].is(t, Bad, "there is no key")

	if err := os.Mkdir(filepath.Join(data, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(data, "state", "assetd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ok":true,"reasons":[]}`)
	}))
	daemon.Listener.Close()
	daemon.Listener = l
	daemon.Start()
	defer daemon.Close()
	found = checks(t, data, "")
	found["daemon"].is(t, Good, "is ready")
	found["key"].is(t, Note, "the daemon that runs has its own")
	found["API"].is(t, Note, "the key is the daemon's own")
}

// No hint says to open a directory of the system.
func TestWritable_AsksForADirectoryOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to become another user")
	}
	above := machine(t)
	if err := os.Chmod(above, 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(above, "data")
	added := make(chan Check, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			t.Error(errno)
		}
		d := &doctor{cfg: &config.Config{}}
		d.writable("state.dir", filepath.Join(data, "state"))
		added <- d.results[0]
	}()
	f := <-added
	f.is(t, Bad, "is not there, and cannot be made in "+above)
	if want := "make " + filepath.Join(data, "state") + " and let uid 65534 have it, or choose another directory"; f.Hint != want {
		t.Errorf("%q, want %q", f.Hint, want)
	}
}
