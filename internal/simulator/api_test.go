package simulator

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

// statuses polls a run every so often and tells what it says: 404 by its number.
func statuses(t *testing.T, s *Sim, id run.ID, every time.Duration, n int) string {
	t.Helper()
	var said []string
	for i := range n {
		if i > 0 {
			time.Sleep(every) // real time: outside of bubbles it is 0
		}
		w := poll(s, id)
		if w.Code != http.StatusOK {
			said = append(said, fmt.Sprint(w.Code))
			continue
		}
		a := decode(t, w.Body.Bytes())
		word := a.Status
		if a.Result != nil && len(a.Result.Images) > 0 {
			word += "+"
		}
		said = append(said, word)
	}
	return strings.Join(said, " ")
}

func TestARunGoesThroughItsTimeline(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		opts []RunOption
		want string // polled once a second, the first time after 10 s
	}{
		"at once":                       {nil, "completed+ completed+"},
		"since added":                   {[]RunOption{Pending(9 * s), Running(2 * s)}, "running completed+ completed+"},
		"since first poll":              {[]RunOption{FromFirstPoll(), Pending(1 * s), Running(2 * s)}, "pending running running completed+"},
		"no length, no phase":           {[]RunOption{Unknown(0), Pending(0), Running(0)}, "completed+"},
		"404 at first":                  {[]RunOption{FromFirstPoll(), Unknown(2 * s)}, "404 404 completed+"},
		"404 so often":                  {[]RunOption{UnknownPolls(2), Running(s)}, "404 404 running completed+"},
		"empty at first":                {[]RunOption{EmptyPolls(2)}, "completed completed completed+"},
		"failed":                        {[]RunOption{Ends(run.Failed)}, "failed+ failed+"},
		"cancelled":                     {[]RunOption{Ends(run.Cancelled)}, "cancelled+"},
		"some nodes failed":             {[]RunOption{Ends(run.CompletedWithErrors)}, "completed_with_errors+"},
		"never ends":                    {[]RunOption{Ends(run.Running)}, "running running"},
		"unknown status":                {[]RunOption{Timeline(Phase{Status: "thinking", Polls: 1})}, "thinking completed+"},
		"goes back":                     {[]RunOption{Timeline(Phase{Status: run.Completed, Polls: 1}, Phase{Status: run.Running, Polls: 1})}, "completed+ running completed+"},
		"lists while it works":          {[]RunOption{Timeline(Phase{Status: run.Running, Polls: 1, Lists: true})}, "running+ completed+"},
		"time or polls":                 {[]RunOption{FromFirstPoll(), Timeline(Phase{Status: run.Pending, For: 2 * s, Polls: 9}, Phase{Status: run.Running, For: 9 * s, Polls: 1})}, "pending pending running completed+"},
		"listed late, and not for ever": {[]RunOption{Image("b", 0, Listed(2, 3))}, "completed+"},
	} {
		synctest.Test(t, func(t *testing.T) {
			sim := New()
			defer sim.Close()
			add(t, sim, "runs1", append(c.opts, Image("a", 0))...)
			time.Sleep(10 * time.Second)
			if got := statuses(t, sim, "runs1", time.Second, strings.Count(c.want, " ")+1); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		})
	}
}

func TestAnAnswerHoldsWhatTheAPIDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(WithSkew(time.Minute, 0))
		s.MountedAt("https://cdn.example")
		defer s.Close()
		add(t, s, "omps2OH829", App("app1"), Running(2*time.Minute), ErrorMessage("why"), Field("cost", 12),
			List("models", "https://h/m.glb"), Image("abc123", 0), Video("v", 0), Audio("", waveHeader+4410), Image("twice", 0, Twice()), Image("odd", 0, Told("width", 7), Told("prompt", "a & b")))
		var before, after struct{ Data map[string]any }
		must(t, json.Unmarshal(poll(s, "omps2OH829").Body.Bytes(), &before))
		if before.Data["result"] != nil || before.Data["completed_at"] != nil || before.Data["started_at"] != "2000-01-01T00:01:00.000Z" || before.Data["error_message"] != nil {
			t.Errorf("while it works: %v", before.Data)
		}
		time.Sleep(3 * time.Minute)
		w := poll(s, "omps2OH829")
		must(t, json.Unmarshal(w.Body.Bytes(), &after))
		result := after.Data["result"].(map[string]any)
		delete(after.Data, "result")
		want := map[string]any{
			"run_id": "omps2OH829", "status": "completed", "app_id": "app1", "error_message": "why", "cost": 12.0,
			"started_at": "2000-01-01T00:01:00.000Z", "completed_at": "2000-01-01T00:03:00.000Z",
		}
		if d := cmp.Diff(want, after.Data); d != "" {
			t.Errorf("answer (-want +got):\n%s", d)
		}
		var assets []string
		for _, kind := range []string{"images", "videos", "audios", "models"} {
			for _, e := range result[kind].([]any) {
				e := e.(map[string]any)
				assets = append(assets, fmt.Sprint(kind, " ", e["id"], " ", e["width"], " ", e["duration"], " ", e["prompt"]))
			}
		}
		if d := cmp.Diff([]string{
			"images abc123 64 <nil> <nil>", "images twice 64 <nil> <nil>", "images twice 64 <nil> <nil>", "images odd 7 <nil> a & b",
			"videos v 256 2 <nil>", "audios <nil> <nil> 0.1 <nil>", "models models-1 <nil> <nil> <nil>",
		}, assets); d != "" {
			t.Errorf("assets (-want +got):\n%s", d)
		}
		if body := w.Body.String(); !strings.Contains(body, "a & b") || !strings.Contains(body, `"url":"https://cdn.example/private/production/`) || !strings.Contains(body, "/render.png?token=exp=") {
			t.Error(body)
		}
		if date := w.Header().Get("Date"); date != "Sat, 01 Jan 2000 00:04:00 GMT" {
			t.Errorf("the API's clock says %s", date)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsSaidInEveryShape(t *testing.T) {
	for shape, want := range map[Shape]string{
		EmptyLists: `{"audios":[],"images":[],"videos":[]}`, NullLists: `{"audios":null,"images":null,"videos":null}`, NoLists: `{}`, NullResult: `null`,
	} {
		s := New(WithoutData())
		add(t, s, "runs1", shape)
		var doc map[string]json.RawMessage
		must(t, json.Unmarshal(poll(s, "runs1").Body.Bytes(), &doc))
		if got := string(doc["result"]); got != want {
			t.Errorf("shape %d: %s, want %s", shape, got, want)
		}
	}
}

func TestTheAPIRefusesAsDocumented(t *testing.T) {
	s := New(WithPages())
	add(t, s, "runs1", AnswersAs("other"))
	for _, c := range []struct {
		path, key, accept string
		code              int
		body              string
	}{
		{AppsPath + "/runs1", s.Key(), "application/json", 200, `"run_id":"other"`},
		{FlowsPath + "/runs1", s.Key(), "application/json", 200, `"data":{`},
		{AppsPath + "/runs2", s.Key(), "application/json", 404, `{"message":`},
		{AppsPath + "/runs1/x", s.Key(), "application/json", 404, `{"message":`},
		{"/v1/ai/other/runs1", s.Key(), "application/json", 404, `{"message":`},
		{AppsPath + "/runs1", "wrong", "application/json", 401, `{"message":`},
		{AppsPath + "/runs2", "wrong", "application/json", 401, `{"message":`},
		{AppsPath + "/runs1", "", "application/json", 401, `{"message":`},
		{AppsPath + "/runs1", s.Key(), "*/*", 200, "<html>"},
	} {
		w := ask(s.API(), c.path, keyHeader, c.key, "Accept", c.accept)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	s.SetKey("new")
	if w := ask(s.API(), AppsPath+"/runs1", keyHeader, "new", "Accept", "application/json"); w.Code != http.StatusOK {
		t.Errorf("the new key got %d", w.Code)
	}
	if err := s.AddRun("runs1"); err == nil {
		t.Error("a run was added twice")
	}
}

func TestTheRateLimitIsATokenBucketThatSaysWhenToComeBack(t *testing.T) {
	for form, want := range map[RetryForm]string{RetryNone: "", RetrySeconds: "1", RetryDate: "Sat, 01 Jan 2000 00:00:11 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			s := New(WithRateLimit(Limit{PerSecond: 2, Burst: 3, After: form}))
			add(t, s, "runs1")
			time.Sleep(10 * time.Second)
			codes := statuses(t, s, "runs1", 0, 4) + " "
			if got := poll(s, "runs1").Header().Get("Retry-After"); got != want {
				t.Errorf("Retry-After %q, want %q", got, want)
			}
			time.Sleep(500 * time.Millisecond)
			codes += statuses(t, s, "runs1", 0, 2)
			if codes != "completed completed completed 429 completed 429" {
				t.Error(codes)
			}
		})
	}
}

func TestFaultsStrikeTheirRequestsAndAreCounted(t *testing.T) {
	s := New()
	ill, late := Status(503).Times(2).After(1), Status(500).Times(1).RetryAfter(1500*time.Millisecond)
	add(t, s, "runs1", ill, late)
	add(t, s, "runs2")
	if got := s.Unfired(); len(got) != 2 || got[0] != "runs1: status 500" {
		t.Errorf("unfired before: %q", got)
	}
	// The first request is spared by the one and struck by the other.
	if got := statuses(t, s, "runs1", 0, 4); got != "500 503 503 completed" {
		t.Error(got)
	}
	if got := statuses(t, s, "runs2", 0, 1); got != "completed" {
		t.Errorf("another run was struck: %s", got)
	}
	if a, b := s.FiredPoll("runs1", ill), s.FiredPoll("runs1", late); a != 2 || b != 1 || s.Unfired() != nil {
		t.Errorf("fired %d and %d times, unfired %q", a, b, s.Unfired())
	}
	storm := s.FailAPI(Status(502))
	own := s.FailRun("runs2", Status(501).Times(1).With("X-Why", "test"))
	if got := statuses(t, s, "runs2", 0, 2) + " " + statuses(t, s, "nosuch", 0, 1); got != "501 502 502" || storm.Fired() != 2 || own.Fired() != 1 {
		t.Errorf("%s, storm %d, own %d", got, storm.Fired(), own.Fired())
	}
	storm.Disarm()
	if got := statuses(t, s, "runs2", 0, 1); got != "completed" {
		t.Errorf("after the storm: %s", got)
	}
	if s.FailRun("nosuch", ill) != nil || s.FailAsset(key("runs1", run.Images, "nosuch"), ill) != nil {
		t.Error("a fault was armed for nothing")
	}
	if got := s.Polls("runs1")[0]; got.Status != 500 || len(got.Faults) != 1 || got.Faults[0] != late.String() {
		t.Errorf("on record: %v", got)
	}
}

func TestFaultsOfTheAPIsBody(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		holds func(w *httptest.ResponseRecorder, right string) bool
	}{
		{HTML(), func(w *httptest.ResponseRecorder, _ string) bool {
			return w.Header().Get("Content-Type") == "text/html" && strings.Contains(w.Body.String(), "<html>")
		}},
		{Half(), func(w *httptest.ResponseRecorder, right string) bool {
			return w.Body.Len() == len(right)/2 && w.Header().Get("Content-Length") == fmt.Sprint(w.Body.Len())
		}},
		{Huge(1 << 20), func(w *httptest.ResponseRecorder, right string) bool {
			return w.Body.Len() == 1<<20+len(right) && strings.TrimLeft(w.Body.String(), " ") == right
		}},
		{GzipBomb(20), func(w *httptest.ResponseRecorder, _ string) bool {
			packed := w.Body.Len()
			r, err := gzip.NewReader(w.Body)
			if err != nil {
				return false
			}
			n, err := io.Copy(io.Discard, r)
			return n == 20<<20 && err == nil && packed < 64<<10 && w.Header().Get("Content-Encoding") == "gzip"
		}},
		{Header("Age", "600"), func(w *httptest.ResponseRecorder, _ string) bool { return w.Header().Get("Age") == "600" }},
		{Header("Date", ""), func(w *httptest.ResponseRecorder, _ string) bool { return w.Header().Values("Date") == nil }},
		{Status(429).RetryAfterDate(time.Hour), func(w *httptest.ResponseRecorder, _ string) bool {
			at, err := http.ParseTime(w.Header().Get("Retry-After"))
			date, _ := http.ParseTime(w.Header().Get("Date"))
			return err == nil && at.Sub(date) == time.Hour && strings.HasPrefix(w.Body.String(), `{"message":`)
		}},
		{RedirectTo("https://else.example/"), func(w *httptest.ResponseRecorder, _ string) bool {
			return w.Code == 302 && w.Header().Get("Location") == "https://else.example/"
		}},
		{Status(http.StatusNoContent), func(w *httptest.ResponseRecorder, _ string) bool { return w.Code == 204 && w.Body.Len() == 0 }},
	} {
		s := New()
		add(t, s, "runs1", c.fault.Times(1))
		w := poll(s, "runs1")
		if right := poll(s, "runs1").Body.String(); !c.holds(w, right) {
			t.Errorf("%v: %d %v, %d bytes", c.fault, w.Code, w.Header(), w.Body.Len())
		}
	}
}
