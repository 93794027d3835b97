package simulator

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// TestEarlyObjectsAreOthersUntilTheirRunHasEnded asks for an asset by the URL of the
// answers before and after its run's end, at both times.
func TestEarlyObjectsAreOthersUntilTheirRunHasEnded(t *testing.T) {
	for early, c := range map[Early]struct {
		listed      func(early, late string) bool
		before      int  // status by the early URL
		same, after bool // the early URL's object is the result: before the end, after it
		halfOf      bool
	}{
		0:            {func(e, l string) bool { return e == l }, 200, true, true, false},
		EarlyPreview: {func(e, l string) bool { return e == l+"&preview=true&size=420" }, 200, false, false, false},
		EarlyPath:    {func(e, l string) bool { return strings.Contains(e, "/drafts/private/") && e != l }, 200, false, false, false},
		EarlyPart:    {func(e, l string) bool { return e == l }, 200, false, true, true},
		EarlyMissing: {func(e, l string) bool { return e == l }, 404, false, true, false},
	} {
		s := start(t)
		key := run.Key{Run: "run1", Kind: run.Images, ID: "a"}
		must(t, s.AddRun("run1", Timeline(Phase{Status: run.Running, Polls: 1, Lists: true}), Image("a", objectSize, early)))
		listed := func(status string) string {
			t.Helper()
			body := string(getURL(t, s.APIURL()+AppsPath+"/run1", "X-Magnific-Api-Key", s.Key(), "Accept", "application/json").body)
			if !strings.Contains(body, `"status":"`+status+`"`) {
				t.Fatalf("%d: %s", early, body)
			}
			_, url, _ := strings.Cut(body, `"url":"`)
			url, _, _ = strings.Cut(url, `"`)
			return url
		}
		url := listed("running")
		before := getURL(t, url)
		final := listed("completed")
		after, whole := getURL(t, url), getURL(t, final)
		if !c.listed(url, final) {
			t.Errorf("%d: listed as %s, then as %s", early, url, final)
		}
		if before.StatusCode != c.before || whole.StatusCode != http.StatusOK || len(whole.body) != objectSize {
			t.Errorf("%d: %d, then %d with %d bytes", early, before.StatusCode, whole.StatusCode, len(whole.body))
		}
		if got := bytes.Equal(before.body, whole.body); got != c.same {
			t.Errorf("%d: before the end it is the result: %v", early, got)
		}
		if got := bytes.Equal(after.body, whole.body); got != c.after {
			t.Errorf("%d: after the end it is the result: %v", early, got)
		}
		if c.halfOf && !bytes.Equal(before.body, whole.body[:objectSize/2]) {
			t.Errorf("%d: %d bytes, not the first half", early, len(before.body))
		}
		if c.before == 200 && !c.same && before.Header.Get("ETag") == whole.Header.Get("ETag") {
			t.Errorf("%d: the same ETag", early)
		}
		if s.Served(key).Requests != 3 {
			t.Errorf("%d: %+v", early, s.Served(key))
		}
	}
}
