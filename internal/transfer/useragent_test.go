package transfer

import (
	"net/http"
	"sync"
	"testing"
)

func TestCase_A21_EveryRequestNamesTheConfiguredProgram(t *testing.T) {
	body, h := sized(big, `"v1"`)
	var mu sync.Mutex
	agents := map[string]int{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		agents[r.UserAgent()]++
		n := agents[r.UserAgent()]
		mu.Unlock()
		switch {
		case r.UserAgent() != "studio/1.0 (ops)":
			http.Error(w, "no", http.StatusForbidden)
		case n == 1:
			to(302, r.RequestURI+"&hop")(w, r)
		default:
			h(w, r)
		}
	})
	c := newClient(t, Config{})
	failed(t, c, url, &memPart{}, Refused)
	cfg := *c.cfg.Load()
	cfg.UserAgent = "studio/1.0 (ops)"
	c.Configure(cfg)
	part := &memPart{}
	mustBe(t, fetched(t, c, url, part), part, body)
	if size, err := c.Size(t.Context(), request(url)); err != nil || size != int64(len(body)) {
		t.Errorf("size %d, %v", size, err)
	}
	if len(agents) != 2 || agents["assetd"] != 1 || agents["studio/1.0 (ops)"] != 3 {
		t.Errorf("asked as %v", agents)
	}
}
