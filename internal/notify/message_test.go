package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func noon() time.Time { return time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC) }

func composed(t *testing.T, n run.Notice, r run.Run) message {
	t.Helper()
	m, err := compose(n, r, "key-1", "/srv/assets")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestASettledRunIsToldWithAllThatIsKnownOfIt(t *testing.T) {
	n := run.Notice{
		Kind: run.RunPartial, At: noon(), Run: "omps2OH829", App: "app1", Dir: "app1/omps2OH829", State: run.PartialRun,
		Revision: 2, Assets: 3, Stored: 2, Lost: 1, Bytes: 4096, Text: "went wrong: https://cdn.example/a?token=plantedsecret",
	}
	r := run.Run{ID: "omps2OH829", State: run.Waiting, Labels: map[string]string{"shot": "<12>", "the take": "https://x.example/?plantedsecret"}}
	m := composed(t, n, r)
	want := `{"type":"run.partial","timestamp":"2026-02-25T12:00:00Z","data":{"run_id":"omps2OH829","app_id":"app1","state":"partial",` +
		`"labels":{"shot":"<12>","the take":"https://x.example/"},"dir":"/srv/assets/app1/omps2OH829",` +
		`"outcome":"partial","revision":2,"manifest":"/srv/assets/app1/omps2OH829/manifest.json","assets":3,"stored":2,"lost":1,"bytes":4096,` +
		`"error":"went wrong: https://cdn.example/a"}}`
	if got := string(m.body); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	env := []string{
		"ASSETD_APP_ID=app1", "ASSETD_DIR=/srv/assets/app1/omps2OH829", "ASSETD_EVENT=run.partial", "ASSETD_IDEMPOTENCY_KEY=key-1",
		"ASSETD_LABEL_SHOT=<12>", "ASSETD_LABEL_THE_TAKE=https://x.example/", "ASSETD_MANIFEST=/srv/assets/app1/omps2OH829/manifest.json",
		"ASSETD_RUN_ID=omps2OH829", "ASSETD_STATE=partial", "ASSETD_TEXT=went wrong: https://cdn.example/a",
	}
	if d := cmp.Diff(env, m.env); d != "" {
		t.Error(d)
	}
}

func TestALostAssetAComingLossAndATroubleAreTold(t *testing.T) {
	lost := run.Notice{
		Kind: run.LostAsset, At: noon(), Run: "omps2OH829", State: run.Downloading, Rule: run.LossFinal, Text: "404",
		Asset: run.Key{Run: "omps2OH829", Kind: run.Images, ID: "a\x00b"},
	}
	risk := run.Notice{Kind: run.AssetsAtRisk, At: noon(), Runs: []run.ID{"omps2OH829"}, Count: 7, Bytes: 9, Host: "cdn.example", Dies: noon().Add(time.Hour), Text: "too slow"}
	for _, c := range []struct {
		n    run.Notice
		data string
		env  string
	}{
		{
			lost, `{"run_id":"omps2OH829","state":"downloading","labels":{},"kind":"images","asset_id":"a\u0000b","rule":"final","error":"404"}`,
			"ASSETD_ASSET_ID=ab ASSETD_ASSET_KIND=images ASSETD_EVENT=asset.lost ASSETD_IDEMPOTENCY_KEY=key-1 ASSETD_RUN_ID=omps2OH829 ASSETD_STATE=downloading ASSETD_TEXT=404",
		},
		{
			risk, `{"assets":7,"bytes":9,"first_dies_at":"2026-02-25T13:00:00Z","host":"cdn.example","run_ids":["omps2OH829"],"reason":"too slow"}`,
			"ASSETD_EVENT=asset.at_risk ASSETD_IDEMPOTENCY_KEY=key-1 ASSETD_RUN_ID=omps2OH829 ASSETD_TEXT=too slow",
		},
		{
			run.Notice{Kind: run.VolumeGone, At: noon(), Text: "no marker"},
			`{"reason":"no marker"}`,
			"ASSETD_EVENT=volume.offline ASSETD_IDEMPOTENCY_KEY=key-1 ASSETD_TEXT=no marker",
		},
	} {
		m := composed(t, c.n, run.Run{})
		var p struct{ Data json.RawMessage }
		if err := json.Unmarshal(m.body, &p); err != nil || string(p.Data) != c.data {
			t.Errorf("%s: %s, %v\nwant %s", c.n.Kind, p.Data, err, c.data)
		}
		if got := strings.Join(m.env, " "); got != c.env {
			t.Errorf("%s: %s\nwant %s", c.n.Kind, got, c.env)
		}
	}
}

// What stands in a file that somebody else wrote leads nowhere out of the volume.
func TestADirectoryNeverLeadsOutOfTheVolume(t *testing.T) {
	m := composed(t, run.Notice{Kind: run.RunStored, Run: "abcd", Dir: "../../etc"}, run.Run{})
	if !strings.Contains(string(m.body), `"dir":"/srv/assets/etc"`) {
		t.Errorf("%s", m.body)
	}
}

func TestACommandGetsNoSecretOfOurs(t *testing.T) {
	got := inherited([]string{
		"ASSETD_API_KEY=plantedsecret", "MAGNIFIC_API_KEY=plantedsecret", "CREDENTIALS_DIRECTORY=/run/c", "NOTIFY_SOCKET=/run/n", "ASSETD_STATE_DIR=/s",
		"HOME=/root", "LC_TIME=C", "TZ=UTC", "AWS_SECRET_ACCESS_KEY=plantedsecret",
	})
	want := []string{"HOME=/root", "LC_TIME=C", "TZ=UTC", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := inherited([]string{"PATH=/opt"}); len(got) != 1 || got[0] != "PATH=/opt" {
		t.Errorf("%q", got)
	}
}
