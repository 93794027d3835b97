package get

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/poller"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// apiOf is an API that answers for runs.
type apiOf func(run.ID) (run.Answer, error)

func (apiOf) Wait(ctx context.Context) error                         { return ctx.Err() }
func (f apiOf) Get(_ context.Context, id run.ID) (run.Answer, error) { return f(id) }
func (apiOf) Fingerprint(string) string                              { return "key" }
func (apiOf) KeyChanges() int                                        { return 0 }
func (apiOf) Host() string                                           { return "api.test" }

func TestCase_E3_GetEndsARunThatIsUnknownForThirtySeconds(t *testing.T) {
	answers := map[string]run.Refusal{
		"404": {Kind: run.NotFound, Status: 404}, "410": {Kind: run.Rejected, Status: 410}, "502": {Kind: run.ServerError, Status: 502},
		"net": {Kind: run.Unreachable}, "html": {Kind: run.Unusable, Status: 200}, "302": {Kind: run.Unusable, Status: 302},
		"429": {Kind: run.RateLimited, Status: 429}, "429 wait": {Kind: run.RateLimited, Status: 429, RetryAfter: 3 * time.Second},
	}
	for name, c := range map[string]struct {
		first, then []string // what is answered first, and then by turns
		ends        bool
	}{
		"404":                        {nil, []string{"404"}, true},
		"410":                        {nil, []string{"410"}, true},
		"404 and 410":                {nil, []string{"404", "410"}, true},
		"404 and 502":                {nil, []string{"404", "502"}, true},
		"404 and network":            {nil, []string{"404", "net", "net"}, true},
		"404 and 429":                {nil, []string{"404", "429"}, true},
		"404 and 429 that says when": {nil, []string{"429 wait", "404"}, true},
		"404 and a page":             {nil, []string{"html", "404"}, true},
		"404 and a redirect":         {nil, []string{"404", "302"}, true},
		"after an outage":            {[]string{"502", "502", "net", "502"}, []string{"404"}, true},
		"nothing but outages":        {nil, []string{"502", "net", "429"}, false},
		"one 404 in an outage":       {[]string{"404"}, []string{"502", "net"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, err := queue.Open(t.TempDir(), queue.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer q.Close()
				if _, err := q.Add(t.Context(), []run.HandIn{{ID: "typo"}}); err != nil {
					t.Fatal(err)
				}
				n := view{q, map[run.ID]bool{"typo": true}, func(run.Run) {}, newMissing(notFoundAfter)}
				polls := 0
				api := apiOf(func(run.ID) (run.Answer, error) {
					what := c.then[polls%len(c.then)]
					if polls < len(c.first) {
						what = c.first[polls]
					}
					polls++
					time.Sleep(100 * time.Millisecond)
					refusal := answers[what]
					refusal.Cause = errors.New("said so")
					return run.Answer{}, &refusal
				})
				begun := time.Now()
				p := poller.New(poller.Config{MinInterval: 3 * time.Second, MaxInterval: time.Minute, GiveUpAfter: time.Hour, NotFoundAfter: notFoundAfter}, poller.Deps{
					API: api, Queue: n, Clock: clock.New(), Service: clock.NewService(0), Tell: func(run.Event) {},
					Changed: func(run.Change) {}, Broken: func(error) bool { return false },
				})
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- p.Run(ctx) }()
				defer func() {
					stop()
					if err := <-done; err != nil {
						t.Error(err)
					}
				}()
				for {
					time.Sleep(time.Second)
					r, err := q.Get(t.Context(), "typo")
					if err != nil {
						t.Fatal(err)
					}
					took := time.Since(begun)
					switch {
					case r.Ended() && !c.ends:
						t.Fatalf("ended after %v: %s", took, r.GaveUp)
					case r.Ended() && (took < notFoundAfter || !strings.Contains(r.GaveUp, "said so") || r.Judge() != run.OutcomeFailed):
						t.Errorf("after %v: %s, %q", took, r.Judge(), r.GaveUp)
						return
					case r.Ended(), took > 3*time.Minute && !c.ends:
						return
					case took > 90*time.Second && c.ends:
						t.Fatalf("not ended after %v and %d polls: %+v", took, polls, r.Polls)
					}
				}
			})
		})
	}
}
