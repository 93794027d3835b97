package magnific

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func TestWhatA200CannotSayIsUnusable(t *testing.T) {
	for name, c := range map[string]struct {
		body, want string
	}{
		"HTML":        {"<html>Sign in</html>", "HTML"},
		"half":        {`{"data":{"run_id":"omps2`, "not JSON"},
		"empty":       {"", "empty"},
		"another run": {`{"data":{"run_id":"another1","status":"completed"}}`, "another run"},
		"too large":   {`{"status":"` + strings.Repeat("x", maxBody) + `"}`, "larger than 8 MiB"},
		"deep":        {strings.Repeat("[", 100_000), "nested"},
	} {
		for _, chunked := range []bool{false, true} {
			client, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				fmt.Fprint(w, c.body)
			})
			_, err := client.Get(t.Context(), runID)
			if r := refusal(t, err); r.Kind != run.Unusable || r.Status != 200 || !strings.Contains(r.Error(), c.want) || r.Date.IsZero() {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

func TestALargeAnswerIsReadToItsEnd(t *testing.T) {
	for _, size := range []int{smallBody - 1, smallBody, smallBody + 1, maxBody} {
		head, tail := `{"run_id":"omps2OH829","status":"running","pad":"`, `"}`
		pad := strings.Repeat("x", size-len(head)-len(tail))
		c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, head+pad+tail) })
		a, err := c.Get(t.Context(), runID)
		if err != nil || len(a.Extra["pad"]) != len(pad)+2 {
			t.Errorf("%d bytes: %d of %d, %v", size, len(a.Extra["pad"])-2, len(pad), err)
		}
		if len(c.large) != 0 {
			t.Error("the place for large bodies is not given back")
		}
	}
}

func TestABodyCutShortIsTheNetworksFault(t *testing.T) {
	c, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"data":{"run_id":"omps2OH829","status":"compl`)
	})
	_, err := c.Get(t.Context(), runID)
	if r := refusal(t, err); r.Kind != run.Unreachable || !strings.Contains(r.Error(), "broke off") {
		t.Errorf("%+v", r)
	}
}

func packed(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPackedAnswersAreReadWithinBounds(t *testing.T) {
	good := packed(t, []byte(`{"run_id":"omps2OH829","status":"running"}`))
	damaged := bytes.Clone(good)
	damaged[len(damaged)-7] ^= 1
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		want     string
		kind     run.RefusalKind
	}{
		"good":     {"gzip", good, "", ""},
		"bomb":     {"gzip", packed(t, make([]byte, 4*maxBody)), "larger than 8 MiB", run.Unusable},
		"damaged":  {"gzip", damaged, "gzip encoding is damaged", run.Unusable},
		"no gzip":  {"gzip", []byte(`{"run_id":"omps2OH829","status":"running"}`), "gzip encoding is damaged", run.Unusable},
		"cut":      {"gzip", good[:len(good)-10], "broke off", run.Unreachable},
		"other":    {"br", good, `"br" was not asked for`, run.Unusable},
		"identity": {"identity", []byte(`{"run_id":"omps2OH829","status":"running"}`), "", ""},
	} {
		client, _ := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", c.encoding)
			w.Write(c.body)
		})
		a, err := client.Get(t.Context(), runID)
		if c.want == "" {
			if err != nil || a.Status != run.Running {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if r := refusal(t, err); r.Kind != c.kind || !strings.Contains(r.Error(), c.want) {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestABodyToldToBeTooLargeIsNotReadAtAll(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	c, _ := api(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1073741824")
		w.(http.Flusher).Flush()
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	_, err := c.Get(t.Context(), runID)
	if r := refusal(t, err); r.Kind != run.Unusable || !strings.Contains(r.Error(), "larger than 8 MiB") {
		t.Errorf("%v", r)
	}
}

func TestAStalledBodyEndsWithTheTimeout(t *testing.T) {
	block := make(chan struct{})
	for _, sent := range []int{10, smallBody + 10} {
		c, _ := api(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write(bytes.Repeat([]byte(" "), sent))
			w.(http.Flusher).Flush()
			select {
			case <-block:
			case <-r.Context().Done():
			}
		})
		cfg := config(c.base.String())
		cfg.Timeout = 100 * time.Millisecond
		c.Configure(cfg)
		_, err := c.Get(t.Context(), runID)
		if r := refusal(t, err); r.Kind != run.Unreachable || !strings.Contains(r.Error(), "api.timeout") {
			t.Errorf("%v", r)
		}
	}
	close(block)
}
