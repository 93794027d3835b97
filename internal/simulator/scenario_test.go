package simulator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/assetd/assetd/internal/run"
)

// answered is how long the client waits for an answer and its body: some faults never end
// one. A machine under load, and the race detector, need that long for one that does.
const answered = 5 * time.Second

// fetcher is the simplest client that gets everything in the end: it polls until
// a run has ended, and asks for what it has not got, under If-Range where it can.
type fetcher struct {
	sim  *Sim
	http *http.Client
}

// run returns the SHA-256 of each of the run's assets by its URL's path.
func (f *fetcher) run(t *testing.T, id run.ID) (map[string]string, error) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for range 100 { // two seconds: ten times what any run lasts
		<-again.C
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, f.sim.APIURL()+AppsPath+"/"+string(id), nil)
		req.Header.Set(keyHeader, f.sim.Key())
		resp, err := f.http.Do(req)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		text := strings.TrimSpace(string(body))
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(text, "{") {
			continue
		}
		if text = strings.ReplaceAll(text, ":NaN", ":null"); !json.Valid([]byte(text)) {
			continue
		}
		if !strings.HasPrefix(text, `{"data"`) {
			text = `{"data":` + text + `}`
		}
		a := decode(t, []byte(text))
		if a.Result == nil || !run.Status(a.Status).Terminal() {
			continue
		}
		sums := map[string]string{}
		assets := append(append(a.Result.Images, a.Result.Videos...), a.Result.Audios...)
		for _, l := range assets {
			sum, err := f.asset(t, l.URL)
			if err != nil {
				break // a poll brings a fresh URL
			}
			sums[strings.TrimPrefix(l.URL[:strings.Index(l.URL, "?")], f.sim.CDNURL())] = sum
		}
		if len(sums) > 0 && len(sums) == len(assets) {
			return sums, nil
		}
	}
	return nil, errors.New("not had in 100 polls")
}

func (f *fetcher) asset(t *testing.T, u string) (string, error) {
	var have []byte
	var etag, why string
	total := int64(-1)
	for range 6 {
		if total < 0 {
			have = nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), answered)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(have)))
		if len(have) > 0 {
			req.Header.Set("If-Range", etag)
		}
		resp, err := f.http.Do(req)
		if err != nil {
			cancel()
			why = "no answer"
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		cancel()
		var from, to, all int64
		_, unread := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &all)
		media := !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && resp.Header.Get("Content-Type") != "application/json"
		switch {
		case resp.StatusCode == http.StatusOK && err == nil && media && len(body) > 0 && unread != nil && wholePNG(resp, body):
			sum := sha256.Sum256(body)
			return hex.EncodeToString(sum[:]), nil
		case resp.StatusCode == http.StatusPartialContent && unread == nil && from == int64(len(have)) && (total < 0 || all == total && resp.Header.Get("ETag") == etag) && (resp.ContentLength < 0 || resp.ContentLength == to-from+1):
			have = append(have, body...)
			etag, total = resp.Header.Get("ETag"), all
			if int64(len(have)) == total && err == nil && wholePNG(resp, have) {
				sum := sha256.Sum256(have)
				return hex.EncodeToString(sum[:]), nil
			}
			if strings.HasPrefix(etag, "W/") || etag == "" || int64(len(have)) == total {
				total = -1
			}
		default:
			total = -1
		}
		why = resp.Status
	}
	return "", errors.New(why)
}

// wholePNG reports whether a body that is sent as a PNG begins and ends like one.
func wholePNG(resp *http.Response, body []byte) bool {
	return resp.Header.Get("Content-Type") != "image/png" || bytes.HasPrefix(body, []byte("\x89PNG")) && bytes.HasSuffix(body, []byte("IEND\xae\x42\x60\x82"))
}

// fetchAll gets all runs, some at once, and holds what it got against what is expected.
func fetchAll(t *testing.T, s *Sim, ids []run.ID) {
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	f := &fetcher{sim: s, http: &http.Client{Transport: transport}}
	sums := make([]map[string]string, len(ids))
	var some errgroup.Group
	some.SetLimit(8)
	for i, id := range ids {
		some.Go(func() error {
			var err error
			if sums[i], err = f.run(t, id); err != nil {
				t.Errorf("%s: %v: %v", id, err, s.Requests(func(r Request) bool { return r.Run == id }))
			}
			return nil
		})
	}
	_ = some.Wait() // they return nil
	for i, e := range s.Expected() {
		for _, a := range e.Assets {
			if a.Lost {
				t.Errorf("%v is expected to be lost", a.Key)
			}
			if got := sums[i][s.assets[a.Key].path]; got != a.SHA256 && sums[i] != nil {
				t.Errorf("%v: got %s, want %s", a.Key, got, a.SHA256)
			}
		}
	}
}

func TestFaultsMeetsAClientWithEachOfThemAndHeals(t *testing.T) {
	s := start(t)
	ids, err := Faults(s)
	must(t, err)
	fetchAll(t, s, ids)
	if unfired := s.Unfired(); unfired != nil {
		t.Errorf("never fired: %q", unfired)
	}
	// net/http sends a redirect's target the URL it came from: the record shows it.
	if leaks := s.Leaks(); len(leaks) == 0 || leaks[0].Leak != "Referer" {
		t.Errorf("leaks: %v", leaks)
	}
}

func TestKillHealsForEverySeed(t *testing.T) {
	s := start(t)
	var ids []run.ID
	for seed := range uint64(3) {
		more, err := Kill(s, seed, 20)
		must(t, err)
		ids = append(ids, more...)
	}
	fetchAll(t, s, ids)
	for _, r := range s.Expected() {
		for _, a := range r.Assets {
			if a.Lost || a.Size > 2<<20 || r.Status == "" {
				t.Errorf("%v: %+v", r.ID, a)
			}
		}
	}
	if len(ids) != 60 || len(s.Expected()) != 60 {
		t.Errorf("%d runs, %d expected", len(ids), len(s.Expected()))
	}
}

func TestDemoEndsInTimeAndShowsEveryEnd(t *testing.T) {
	var before []run.ID
	for pace, most := range map[float64]time.Duration{1: 5 * time.Second, 10: 500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			ids, err := Demo(s, pace)
			must(t, err)
			if before == nil {
				before = ids
			}
			if fmt.Sprint(ids) != fmt.Sprint(before) {
				t.Errorf("%v, and the next time %v", ids, before)
			}
			for _, id := range ids {
				if !run.ValidID(string(id)) {
					t.Errorf("%s is no run ID", id)
				}
				poll(s, id)
			}
			time.Sleep(most)
			ends := map[run.Outcome]int{}
			for i, r := range s.order {
				e := r.expected() // Expected would hash all of it
				w := poll(s, ids[i])
				if w.Code == http.StatusBadGateway {
					w = poll(s, ids[i])
				}
				if !strings.Contains(w.Body.String(), `"status":"`+string(e.Status)+`"`) {
					t.Errorf("run %d is at %.200s after %v, want %s", i, w.Body, most, e.Status)
				}
				ends[e.Outcome]++
			}
			if ends[run.OutcomeStored] < 8 || ends[run.OutcomePartial] != 1 || ends[run.OutcomeFailed] != 2 {
				t.Errorf("ends: %v", ends)
			}
			if pace != 1 {
				return
			}
			for k := range s.assets {
				begun := time.Now()
				func() {
					defer func() { _ = recover() }() // the one that is cut
					s.CDN().ServeHTTP(nobody{http.Header{}}, httptest.NewRequest(http.MethodGet, target(t, s, k), nil))
				}()
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("the transfer of %v takes %v", k, took)
				}
			}
		})
	}
}

// nobody takes an answer and keeps nothing.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header       { return n.header }
func (nobody) WriteHeader(int)             {}
func (nobody) Write(p []byte) (int, error) { return len(p), nil }
func (nobody) Flush()                      {}

func TestImagesAndVideosAreWhatABenchmarkAsksFor(t *testing.T) {
	s := start(t, WithRecordLimit(10))
	ids, err := Images(s, 20, 5, 64<<10)
	must(t, err)
	more, err := Videos(s, 2, 1<<20)
	must(t, err)
	if len(ids) != 20 || len(more) != 2 {
		t.Fatalf("%d and %d runs", len(ids), len(more))
	}
	fetchAll(t, s, append(ids, more...))
	sums := map[string]bool{}
	for _, r := range s.Expected() {
		for _, a := range r.Assets {
			sums[a.SHA256] = true
			if want := map[run.Kind]int64{run.Images: 64 << 10, run.Videos: 1 << 20}[a.Key.Kind]; a.Size != want {
				t.Errorf("%v has %d bytes, want %d", a.Key, a.Size, want)
			}
		}
	}
	if len(sums) != 102 {
		t.Errorf("%d different objects, want 102", len(sums))
	}
	if n := len(s.Requests()); n != 10 {
		t.Errorf("%d requests on record, want 10", n)
	}
}
