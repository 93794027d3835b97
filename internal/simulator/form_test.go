package simulator

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func TestCase_A13_EachFormHasTheAssetsElsewhere(t *testing.T) {
	s := start(t)
	for form, want := range map[Form]string{
		Documented: `"result":{"audios":[],"images":[{`,
		Singular:   `"image":{"created_at"`,
		Nested:     `"result":{"output":{"audios":[],"images":[{`,
		Capitals:   `"IMAGES":[{`,
		AsText:     `"result":"{\"audios\":[],\"images\":[{`,
		Generated:  `"generated":["http://`,
	} {
		id := run.ID("form" + string(rune('0'+form)))
		must(t, s.AddRun(id, Image("x", 4096), form, Field("score", NaN)))
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.APIURL()+FlowsPath+"/"+string(id), nil)
		req.Header.Set(keyHeader, s.Key())
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		_ = resp.Body.Close()
		if !strings.Contains(string(body), want) || !strings.Contains(string(body), `"score":NaN`) {
			t.Errorf("%d: no %s in %s", form, want, body)
		}
	}
}

func TestCase_D3_AnAccountMayHaveOnePathAlone(t *testing.T) {
	for _, wrong := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusFound, http.StatusOK} {
		s := start(t, WithRunsPath(FlowsPath, wrong))
		must(t, s.AddRun("onepath", Image("x", 4096)))
		for path, want := range map[string]int{AppsPath: wrong, FlowsPath: http.StatusOK} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.APIURL()+path+"/onepath", nil)
			req.Header.Set(keyHeader, s.Key())
			resp, err := http.DefaultTransport.RoundTrip(req)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			_ = resp.Body.Close()
			if resp.StatusCode != want || strings.Contains(string(body), `"status":"completed"`) != (path == FlowsPath) {
				t.Errorf("%s, %d: %d %s", path, wrong, resp.StatusCode, body)
			}
		}
	}
}
