package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// Labels beyond a limit refuse the whole submission, before anything is written.
func TestCase_A14_LabelsBeyondALimitAreUnprocessable(t *testing.T) {
	set := func(n, size int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("%q:%q", fmt.Sprintf("%02d", i), strings.Repeat("v", size-2)))
		}
		return "{" + strings.Join(all, ",") + "}"
	}
	s := guarded(t, server.Tokens{})
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"17 of 1,024 bytes": {`{"run_id":"good000001","labels":` + set(17, 1024) + "}\n\"good000002\"", http.StatusUnprocessableEntity, "line 1: the labels come to 17408 bytes"},
		"too many":          {`{"run_id":"good000001","labels":` + set(run.MaxLabels+1, 10) + "}", http.StatusUnprocessableEntity, "65 labels"},
		"long value":        {`{"run_id":"good000001","labels":` + set(1, 1027+2) + "}", http.StatusUnprocessableEntity, "1027 bytes"},
		"and no ID":         {`{"run_id":"good000001","labels":` + set(17, 1024) + "}\n\"../x\"", http.StatusBadRequest, "17408 bytes"},
		"no string":         {`{"run_id":"good000001","labels":{"a":1}}`, http.StatusBadRequest, "not a string"},
		"nothing":           {"\n", http.StatusBadRequest, "nothing was handed in"},
	} {
		w := answer(s.Handler(), request("POST", "/api/v1/runs", c.body, "Content-Type", "application/x-ndjson"))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		// Nothing is taken here: what a drop file's report says of the rest would be untrue.
		if strings.Contains(w.Body.String(), "taken without") || strings.Contains(w.Body.String(), "left out") {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
	if files, err := os.ReadDir(s.DropDir); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	w := answer(s.Handler(), request("POST", "/api/v1/runs", `{"run_id":"good000001","labels":`+set(16, 1024)+"}", "Content-Type", "application/json"))
	if w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// intake is an inbox that takes its time.
type intake struct {
	took  time.Duration // negative: for ever
	paths []string
}

func (i *intake) Await(ctx context.Context, paths []string) error {
	i.paths = append(i.paths, paths...)
	if i.took < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(i.took)
	return nil
}

func TestCase_E2_AnAnswerComesOnceTheRunsAreInTheQueueOrAfterABoundedWait(t *testing.T) {
	for name, c := range map[string]struct{ took, want time.Duration }{
		"at once": {0, 0}, "in a second": {time.Second, time.Second}, "never": {-1, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := intake{took: c.took}
				s := guarded(t, server.Tokens{}, func(d *server.Deps) { d.Intake = &in })
				for kind, r := range map[string]*http.Request{
					"submission": request("POST", "/api/v1/runs", `"good000001"`, "Content-Type", "application/json"),
					"webhook":    delivery(t, "msg_1", time.Now(), `{"run_id":"unknown001"}`),
				} {
					begun := time.Now()
					w := answer(s.Handler(), r)
					if w.Code != http.StatusAccepted || time.Since(begun) != c.want {
						t.Errorf("%s: %d after %v, want %v: %s", kind, w.Code, time.Since(begun), c.want, w.Body)
					}
				}
				files, err := filepath.Glob(filepath.Join(s.DropDir, "add-*"))
				slices.Sort(in.paths)
				if err != nil || len(files) != 2 || !slices.Equal(files, in.paths) {
					t.Errorf("files %v, awaited %v, %v", files, in.paths, err)
				}
			})
		})
	}
}
