package magnific

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
)

func parse(t *testing.T, body string) run.Answer {
	t.Helper()
	a, err := Parse([]byte(body))
	if err != nil {
		t.Fatalf("Parse(%.200s): %v", body, err)
	}
	return a
}

func result(lists string) string {
	return `{"data":{"run_id":"omps2OH829","status":"completed","result":{` + lists + `}}}`
}

func ids(a run.Answer) []string {
	var found []string
	for _, l := range a.Assets {
		found = append(found, string(l.Kind)+"/"+l.ID)
	}
	return found
}

func ptr[T any](v T) *T { return &v }

func TestTheDocumentedAnswerIsReadWhole(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "completed.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := run.Answer{
		Run: "omps2OH829", App: "uqzQLDr2Aw", Status: run.Completed,
		StartedAt: "2026-02-25T12:00:00.000Z", CompletedAt: "2026-02-25T12:02:00.000Z",
		Assets: []run.Listed{
			{
				Kind: run.Images, ID: "abc123", Tool: "text-to-image", Width: ptr(1024), Height: ptr(768),
				URL:       "https://pikaso.cdnpk.net/private/production/1234567890/render.png?token=exp=1772064000~hmac=0123abcd",
				Source:    "https://pikaso.cdnpk.net/private/production/1234567890/render.png",
				Expiry:    time.Unix(1772064000, 0).UTC(),
				CreatedAt: "2026-02-25T12:02:00.000Z",
			},
			{Kind: run.Videos, ID: "v1", URL: "https://h/v.mp4", Source: "https://h/v.mp4", Duration: ptr(5.25)},
		},
	}
	if diff := cmp.Diff(want, parse(t, string(body))); diff != "" {
		t.Error(diff)
	}
	var outer struct{ Data json.RawMessage }
	if err := json.Unmarshal(body, &outer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, parse(t, string(outer.Data))); diff != "" {
		t.Errorf("without the outer data: %s", diff)
	}
	if diff := cmp.Diff(want, parse(t, "\uFEFF \n"+string(body)+"\n")); diff != "" {
		t.Errorf("with a byte order mark: %s", diff)
	}
}

func TestNullsAndMissingListsAreNoError(t *testing.T) {
	for _, body := range []string{
		`{"data":{"run_id":"omps2OH829","status":"pending"}}`,
		`{"data":{"run_id":"omps2OH829","status":"pending","app_id":null,"started_at":null,"completed_at":null,"error_message":null,"result":null}}`,
		`{"run_id":"omps2OH829","status":"pending","result":{}}`,
		`{"run_id":"omps2OH829","status":"pending","result":{"images":null,"videos":[],"audios":[null]}}`,
		`{"data":null,"run_id":"omps2OH829","status":"pending"}`,
	} {
		want := run.Answer{Run: "omps2OH829", Status: run.Pending}
		got := parse(t, body)
		delete(got.Extra, "data")
		if len(got.Extra) == 0 {
			got.Extra = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestAFieldOfAnotherTypeNeverLosesTheAsset(t *testing.T) {
	for field, kept := range map[string]bool{
		`"width":"1024"`: true, `"width":1.5`: true, `"width":-1`: true, `"width":1e99`: true, `"width":{"px":1}`: true,
		`"height":[]`: true, `"height":true`: true, `"height":null`: false, `"width":1024.0`: false,
		`"duration":"5"`: true, `"duration":-3`: true, `"duration":1e999`: true, `"duration":{}`: true, `"duration":7`: false,
		`"tool":{"name":"x"}`: true, `"tool":17`: false, `"tool":false`: false, `"created_at":1772064000`: false,
		`"created_at":["x"]`: true,
	} {
		a := parse(t, result(`"images":[{"id":"a","url":"https://h/a.png",`+field+`}]`))
		if len(a.Assets) != 1 || a.Assets[0].ID != "a" || a.Assets[0].URL != "https://h/a.png" {
			t.Errorf("%s: %+v", field, a.Assets)
			continue
		}
		if name, value, _ := strings.Cut(field, ":"); (len(a.Assets[0].Extra) > 0) != kept ||
			kept && string(a.Assets[0].Extra[strings.Trim(name, `"`)]) != value {
			t.Errorf("%s: kept %s", field, a.Assets[0].Extra)
		}
	}
}

func TestRunFieldsOfAnotherTypeAreKept(t *testing.T) {
	a := parse(t, `{"status":"failed","run_id":829,"app_id":{"id":"x"},"started_at":1772064000,"completed_at":[1],
		"error_message":{"code": 7, "text": "no"},"result":"none"}`)
	want := run.Answer{
		Run: "829", Status: run.Failed, StartedAt: "1772064000", ErrorMessage: `{"code":7,"text":"no"}`,
		Extra: map[string]json.RawMessage{
			"app_id": json.RawMessage(`{"id":"x"}`), "completed_at": json.RawMessage(`[1]`),
			"error_message": json.RawMessage(`{"code":7,"text":"no"}`), "result": json.RawMessage(`"none"`),
		},
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownFieldsAreKeptByName(t *testing.T) {
	a := parse(t, `{"meta":{"a": 1},"status":"success","seed":1,"data":{"status":"completed","seed":42,"meta":"inner",
		"result":{"cost":{"eur":1},"images":[{"id":"a","url":"https://h/a","nsfw":false,"model":{"v":"2 3"}},7,"text"],"n":3}}}`)
	want := map[string]json.RawMessage{
		"seed": json.RawMessage(`42`), "meta": json.RawMessage(`"inner"`),
		"envelope.meta": json.RawMessage(`{"a":1}`), "envelope.seed": json.RawMessage(`1`), "status": json.RawMessage(`"success"`),
		"result": json.RawMessage(`{"cost":{"eur":1},"images":[7,"text"],"n":3}`),
	}
	if diff := cmp.Diff(want, a.Extra); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]json.RawMessage{"nsfw": json.RawMessage(`false`), "model": json.RawMessage(`{"v":"2 3"}`)}, a.Assets[0].Extra); diff != "" {
		t.Error(diff)
	}
}

func TestAFieldNamedDataOfABareRunIsNoEnvelope(t *testing.T) {
	a := parse(t, `{"run_id":"omps2OH829","status":"completed","data":{"x":1},"result":{"images":[{"id":"a","url":"https://h/a"}]}}`)
	if a.Run != "omps2OH829" || len(a.Assets) != 1 || string(a.Extra["data"]) != `{"x":1}` {
		t.Errorf("%+v", a)
	}
	a = parse(t, `{"status":"completed","data":{"run_id":"omps2OH829","result":{"images":[{"id":"a","url":"https://h/a"}]}}}`)
	if a.Status != run.Completed || a.Run != "omps2OH829" || len(a.Assets) != 1 || a.Extra != nil {
		t.Errorf("status beside data: %+v", a)
	}
}

func TestListsOfAnUnknownKindAreIgnoredByName(t *testing.T) {
	a := parse(t, `{"status":"completed","result":{"models":[{"url":"https://h/m.glb?token=x"}],"notes":[{"text":"x"}],"images":[]},
		"previews":[null,{"id":1,"url":"https://h/p"}],"models":[{"url":"https://h/2"}]}`)
	want := map[string]json.RawMessage{
		"models":   json.RawMessage(`[{"url":"https://h/m.glb?token=x"}]`),
		"models#2": json.RawMessage(`[{"url":"https://h/2"}]`),
		"previews": json.RawMessage(`[null,{"id":1,"url":"https://h/p"}]`),
	}
	if diff := cmp.Diff(want, a.Ignored); diff != "" {
		t.Error(diff)
	}
	if string(a.Extra["result"]) != `{"notes":[{"text":"x"}]}` {
		t.Errorf("%s", a.Extra["result"])
	}
}

func TestEveryAssetHasAnIDOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		lists string
		want  []string
	}{
		"none at all":             {`"images":[{"url":"https://h/1"},{"id":null,"url":"https://h/2"},{"id":"","url":"https://h/3"},{"id":{},"url":"https://h/4"}]`, []string{"images/images-1", "images/images-2", "images/images-3", "images/images-4"}},
		"numbers":                 {`"videos":[{"id":7,"url":"https://h/1"},{"id":12345678901234567890,"url":"https://h/2"}]`, []string{"videos/7", "videos/12345678901234567890"}},
		"twice, two files":        {`"images":[{"id":"a","url":"https://h/1"},{"id":"a","url":"https://h/2"},{"id":"a","url":"https://h/3"}]`, []string{"images/a", "images/a#2", "images/a#3"}},
		"twice, one file":         {`"images":[{"id":"a","url":"https://h/1?t=1"},{"id":"a","url":"https://h/1?t=2"},{"id":"a","url":"https://h/2"},{"id":"a","url":"https://h/2"}]`, []string{"images/a", "images/a#2"}},
		"in two kinds":            {`"images":[{"id":"a","url":"https://h/1"}],"audios":[{"id":"a","url":"https://h/2"}]`, []string{"images/a", "audios/a"}},
		"the suffix is an id too": {`"images":[{"id":"a#2","url":"https://h/0"},{"id":"a","url":"https://h/1"},{"id":"a","url":"https://h/2"},{"id":"a#2","url":"https://h/3"}]`, []string{"images/a#2", "images/a", "images/a#3", "images/a#2#2"}},
		"the index is an id too":  {`"images":[{"id":"images-2","url":"https://h/0"},{"url":"https://h/1"}]`, []string{"images/images-2", "images/images-2#2"}},
		"the index counts places": {`"images":[null,7,{"url":"https://h/3"}]`, []string{"images/images-3"}},
		"no url, then one":        {`"images":[{"id":"a"},{"id":"a","url":"https://h/2"},{"id":"a","url":null}]`, []string{"images/a"}},
		"only the host":           {`"images":[{"id":"a","url":"https://h?f=1"},{"id":"a","url":"https://h/2"}]`, []string{"images/a", "images/a#2"}},
		"bare URLs":               {`"images":["https://h/1","https://h/2"]`, []string{"images/images-1", "images/images-2"}},
		"no list around it":       {`"videos":{"id":"v","url":"https://h/1"}`, []string{"videos/v"}},
		"escapes":                 {`"images":[{"id":"a\"\\\u00e9\n]","url":"https:\/\/h\/1"}]`, []string{"images/a\"\\é\n]"}},
	} {
		a := parse(t, result(c.lists))
		if diff := cmp.Diff(c.want, ids(a)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTheSameFileTwiceKeepsTheBetterURL(t *testing.T) {
	for lists, want := range map[string]string{
		`{"id":"a"},{"id":"a","url":"https://h/1?t=1"}`:                                               "https://h/1?t=1",
		`{"id":"a","url":"https://h/1?t=1"},{"id":"a"}`:                                               "https://h/1?t=1",
		`{"id":"a","url":"https://h/1?t=1&preview=true&size=420"},{"id":"a","url":"https://h/1?t=2"}`: "https://h/1?t=2",
		`{"id":"a","url":"https://h/1?t=2"},{"id":"a","url":"https://h/1?preview=true"}`:              "https://h/1?t=2",
		`{"id":"a","url":"https://h/1?t=1"},{"id":"a","url":"https://h/1?t=2"}`:                       "https://h/1?t=1",
	} {
		a := parse(t, result(`"images":[`+lists+`]`))
		if len(a.Assets) != 1 || a.Assets[0].URL != want {
			t.Errorf("%s: %+v", lists, a.Assets)
		}
	}
}

func TestAVeryLongIDIsKeptAsItIs(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	a := parse(t, result(`"images":[{"id":"`+long+`","url":"https://h/1"}]`))
	if a.Assets[0].ID != long {
		t.Errorf("%d bytes of %d", len(a.Assets[0].ID), len(long))
	}
}

func TestLongWordsAreCutAndKeptWholeAmongTheUnknownFields(t *testing.T) {
	long := strings.Repeat("é", 5000)
	a := parse(t, fmt.Sprintf(`{"status":%q,"app_id":%[1]q,"error_message":%[1]q,"result":{"images":[{"id":"a","tool":%[1]q}]}}`, long))
	for name, c := range map[string]struct {
		got   string
		limit int
		extra json.RawMessage
	}{
		"status":  {string(a.Status), maxStatus, a.Extra["status"]},
		"app_id":  {a.App, maxWord, a.Extra["app_id"]},
		"message": {a.ErrorMessage, maxMessage, a.Extra["error_message"]},
		"tool":    {a.Assets[0].Tool, maxWord, a.Assets[0].Extra["tool"]},
	} {
		if len(c.got) > c.limit || len(c.got) < c.limit-4 || !utf8.ValidString(c.got) || !strings.HasSuffix(c.got, "…") {
			t.Errorf("%s: %d bytes, limit %d: %q", name, len(c.got), c.limit, c.got)
		}
		if string(c.extra) != `"`+long+`"` {
			t.Errorf("%s: kept %d bytes", name, len(c.extra))
		}
	}
}

func TestWhatCannotBeUsedIsRefusedWithItsReason(t *testing.T) {
	var many strings.Builder
	for i := range maxFields + 1 {
		fmt.Fprintf(&many, `,"f%d":1`, i)
	}
	unknown := strings.Repeat(`{"a":1,"b":2,"c":3,"url":"u"},`, maxExtra/3+1)
	for body, want := range map[string]string{
		"":                             "empty",
		" \n":                          "empty",
		"<!DOCTYPE html><html>":        "HTML",
		"upstream timed out":           "not JSON",
		`{"status":"comple`:            "not JSON: unexpected end",
		`{"status":"completed"}}`:      "not JSON: invalid character",
		`{"status":"completed"} 1`:     "not JSON: invalid character",
		"{\"status\":\"comp\xff\"}":    "UTF-8",
		`[]`:                           "not an object",
		`null`:                         "not an object",
		`"completed"`:                  "not an object",
		`{}`:                           "no status",
		`{"data":{}}`:                  "no status",
		`{"data":{"status":null}}`:     "no status",
		`{"data":{"status":7}}`:        "no status",
		`{"data":{"status":{"a":1}}}`:  "no status",
		`{"data":{"status":""}}`:       "status is empty",
		`{"message":"internal error"}`: "no status",
		`{"status":"running","status":"completed"}`:                              `"status" twice`,
		`{"status":"running","st\u0061tus":"completed"}`:                         `"status" twice`,
		`{"data":{"status":"running"},"data":{"status":"completed"}}`:            `"data" twice`,
		result(`"images":[],"images":[{"id":"a","url":"https://h/a"}]`):          `"images" twice`,
		result(`"images":[{"id":"a","id":"b","url":"https://h/a"}]`):             `"id" twice`,
		`{"status":"running","https://h/?token=abc":1,"https://h/?token=abc":2}`: "twice",
		strings.Repeat("[", 100_000):                                             "nested deeper",
		`{"status":"x","a":` + strings.Repeat(`{"a":`, 100_000) + "1":            "nested deeper",
		`{"status":"completed"` + many.String() + `}`:                            "more than 256 fields",
		result(`"images":[` + strings.Repeat(`{},`, maxAssets) + `{}]`):          "more than 20000 assets",
		result(`"images":[` + unknown + `{}]`):                                   "more than 50000 unknown fields",
		result(`"images":[` + strings.Repeat(`7,`, maxExtra) + `7]`):             "more than 50000 unknown fields",
	} {
		_, err := Parse([]byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want one that says %q", body, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "abc") {
			t.Errorf("the error quotes a token: %v", err)
		}
	}
}

func TestNestingUpToTheLimitIsRead(t *testing.T) {
	deep := strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1)
	a := parse(t, `{"status":"running","deep":`+deep+`,"text":"[[[[ \\\" {{{{"}`)
	if string(a.Extra["deep"]) != deep {
		t.Errorf("%s", a.Extra["deep"])
	}
}

func TestTheLargestBodiesCostBoundedMemory(t *testing.T) {
	if raceDetector {
		t.Skip("allocations are counted without the race detector")
	}
	fill := func(one string) []byte {
		head := `{"data":{"status":"completed","result":{"images":[`
		n := (maxBody - len(head) - 100) / len(one)
		return []byte(head + strings.Repeat(one, n) + `null]}}}`)
	}
	for name, body := range map[string][]byte{
		"a million URLs": fill(`"a://b",`),
		"many objects":   fill(`{},`),
		"many fields":    fill(`{"a":0,"b":0,"c":0,"d":0,"e":0},`),
		"a wide object":  []byte(`{"status":"x","a":{` + strings.Repeat(`"a":0,`, maxBody/6-10) + `"b":0}}`),
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		a, err := Parse(body)
		runtime.ReadMemStats(&after)
		// All that was allocated, live or not: no more can have been in use.
		if got := after.TotalAlloc - before.TotalAlloc; got > 48<<20 {
			t.Errorf("%s: %d MiB allocated", name, got>>20)
		}
		t.Logf("%s: %d MiB allocated, %d assets, %v", name, (after.TotalAlloc-before.TotalAlloc)>>20, len(a.Assets), err)
	}
}

func TestParseReadsAnyMixtureOfKnownAndUnknown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SampledFrom([]string{`null`, `1`, `"x"`, `{}`, `[]`, `{"url":"https://h/x"}`, `[{"url":"https://h/y"}]`, `true`})
		fields := func(names ...string) string {
			var parts []string
			for _, n := range names {
				if rapid.Bool().Draw(t, n) {
					parts = append(parts, fmt.Sprintf("%q:%s", n, value.Draw(t, n)))
				}
			}
			return strings.Join(parts, ",")
		}
		n := rapid.IntRange(0, 5).Draw(t, "assets")
		var assets []string
		for i := range n {
			rest := fields("id", "tool", "width", "height", "duration", "created_at", "more")
			if rest != "" {
				rest = "," + rest
			}
			assets = append(assets, fmt.Sprintf(`{"url":"https://h/%d"%s}`, i, rest))
		}
		body := `{"status":"completed","result":{"images":[` + strings.Join(assets, ",") + `]}`
		if rest := fields("run_id", "app_id", "started_at", "error_message", "more"); rest != "" {
			body += "," + rest
		}
		a, err := Parse([]byte(body + "}"))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		// Whatever stands beside it, no file is lost, and each has its own id.
		seen := map[string]bool{}
		for _, l := range a.Assets {
			if seen[l.ID] {
				t.Fatalf("%s: %q twice", body, l.ID)
			}
			seen[l.ID] = true
		}
		if len(a.Assets) != n {
			t.Fatalf("%s: %d assets of %d", body, len(a.Assets), n)
		}
	})
}
