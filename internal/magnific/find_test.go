package magnific

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// found is what an answer lists: kind/id and URL of each asset.
func found(t *testing.T, body string) (assets []string, ignored []string) {
	t.Helper()
	a := parse(t, body)
	for _, l := range a.Assets {
		assets = append(assets, string(l.Kind)+"/"+l.ID+" "+l.URL)
	}
	return assets, slices.Sorted(maps.Keys(a.Ignored))
}

const (
	png = "https://cdn.example/o/a.png?token=exp=1~hmac=0"
	mp4 = "https://cdn.example/o/b.mp4?token=exp=1~hmac=1"
	mp3 = "https://cdn.example/o/c.mp3?token=exp=1~hmac=2"
	bin = "https://cdn.example/o/d?token=exp=1~hmac=3"
	in  = "https://cdn.example/i/in.png?token=exp=1~hmac=4"
)

func TestCase_A13_KnownKindsAreTakenWhereverTheyAre(t *testing.T) {
	q := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	for body, want := range map[string][]string{
		`{"status":"completed","result":{"video":{"url":"` + bin + `"}}}`:                                 {"videos/videos-1 " + bin},
		`{"status":"completed","result":{"image":{"url":"` + bin + `","id":"x"}}}`:                        {"images/x " + bin},
		`{"status":"completed","result":{"audio":"` + bin + `"}}`:                                         {"audios/audios-1 " + bin},
		`{"status":"completed","video":{"url":"` + bin + `"}}`:                                            {"videos/videos-1 " + bin},
		`{"status":"completed","image":{"url":"` + bin + `"}}`:                                            {"images/images-1 " + bin},
		`{"status":"completed","video":"` + bin + `"}`:                                                    {"videos/videos-1 " + bin},
		`{"data":{"status":"completed","result":{"IMAGES":[{"url":"` + bin + `"}]}}}`:                     {"images/images-1 " + bin},
		`{"data":{"status":"completed","result":{"Video":{"url":"` + bin + `"}}}}`:                        {"videos/videos-1 " + bin},
		`{"data":{"status":"completed","result":{"output":{"images":[{"id":"x","url":"` + bin + `"}]}}}}`: {"images/x " + bin},
		`{"data":{"status":"completed","output":{"images":["` + png + `","` + bin + `"]}}}`:               {"images/images-1 " + png, "images/images-2 " + bin},
		`{"data":{"status":"completed","result":{"data":{"images":[{"url":"` + bin + `"}]}}}}`:            {"images/images-1 " + bin},
		`{"data":{"status":"completed","result":{"outputs":{"9":{"images":[{"url":"` + bin + `"}]}}}}}`:   {"images/images-1 " + bin},
		`{"data":{"status":"completed","result":{"step one":{"video":{"url":"` + bin + `"}}}}}`:           {"videos/videos-1 " + bin},
		`{"task_id":"t","status":"COMPLETED","generated":["` + png + `"]}`:                                {"images/images-1 " + png},
		`{"data":{"task_id":"t","status":"COMPLETED","generated":["` + png + `","` + mp4 + `"]}}`:         {"images/images-1 " + png, "videos/videos-2 " + mp4},
		`{"status":"completed","result":["` + mp3 + `"]}`:                                                 {"audios/audios-1 " + mp3},
		`{"status":"completed","result":[{"url":"` + bin + `","type":"video"}]}`:                          {"videos/videos-1 " + bin},
		`{"status":"completed","result":"` + mp4 + `"}`:                                                   {"videos/videos-1 " + mp4},
		`{"status":"completed","result":{"url":"` + png + `"}}`:                                           {"images/images-1 " + png},
		`{"status":"completed","outputs":[{"url":"` + bin + `","mime_type":"audio/mpeg","id":"z"}]}`:      {"audios/z " + bin},
		`{"status":"completed","outputs":[{"url":"` + bin + `","tool":"text-to-image"}]}`:                 {"images/images-1 " + bin},
		`{"status":"completed","outputs":[{"url":"` + bin + `","id":"video_9"}]}`:                         {"videos/video_9 " + bin},
		`{"status":"completed","outputs":[{"url":"` + bin + `","file_name":"x.WAV"}]}`:                    {"audios/audios-1 " + bin},
		`{"status":"completed","result":` + q(`{"images":[{"id":"x","url":"`+bin+`"}]}`) + `}`:            {"images/x " + bin},
		`{"status":"completed","result":` + q(q(`{"video":"`+bin+`","score":NaN}`)) + `}`:                 {"videos/videos-1 " + bin},
		`{"data":` + q(`{"status":"completed","result":{"videos":["`+bin+`"]}}`) + `}`:                    {"videos/videos-1 " + bin},
		`{"status":"completed","result":{"images":` + q(`["`+bin+`"]`) + `}}`:                             {"images/images-1 " + bin},
		`{"status":"completed","result":{"image_url":"` + bin + `"}}`:                                     {"images/images-1 " + bin},
		`{"status":"completed","result":{"videoUrls":["` + bin + `"]}}`:                                   {"videos/videos-1 " + bin},
		`{"status":"completed","result":{"upscaled_image":"` + bin + `"}}`:                                {"images/images-1 " + bin},
		`{"status":"completed","result":{"images":[{"id":"x","image_url":"` + bin + `"}]}}`:               {"images/x " + bin},
		`{"status":"completed","result":{"images":[{"id":"x","URL":"` + bin + `"}]}}`:                     {"images/x " + bin},
		`{"status":"completed","result":{"images":[{"image":{"id":"x","url":"` + bin + `"}}]}}`:           {"images/x " + bin},
		`{"status":"completed","result":{"images":["data:image/png;base64,AAAA"]}}`:                       {"images/images-1 data:image/png;base64,AAAA"},
		`{"status":"completed","generated":["data:video/mp4;base64,AAAA"]}`:                               {"videos/videos-1 data:video/mp4;base64,AAAA"},
		// What is there twice is taken once, under its id.
		`{"status":"completed","result":{"images":[{"id":"x","url":"` + png + `"}],"image":"` + png + `"},"generated":["` + png + `"]}`: {"images/x " + png},
		// Two that differ in nothing but the query are two.
		`{"status":"completed","generated":["https://h/get.png?id=1","https://h/get.png?id=2"]}`: {"images/images-1 https://h/get.png?id=1", "images/images-2 https://h/get.png?id=2"},
	} {
		assets, ignored := found(t, body)
		if diff := cmp.Diff(want, assets); diff != "" || len(ignored) > 0 {
			t.Errorf("%s: ignored %q %s", body, ignored, diff)
		}
	}
}

func TestCase_A13_AnyOtherURLIsReported(t *testing.T) {
	for body, want := range map[string][]string{
		`{"status":"completed","result":{"model":{"url":"https://h/x.glb"}}}`:                            {"model"},
		`{"status":"completed","result":{"models":[{"url":"https://h/x.glb"}]}}`:                         {"models"},
		`{"status":"completed","result":{"documents":["HTTPS://h/x.pdf"]}}`:                              {"documents"},
		`{"status":"completed","result":{"deep":{"er":[{"and":["https://h/x.png"]}]}}}`:                  {"deep"},
		`{"status":"completed","result":{"files":["` + bin + `"]}}`:                                      {"files"},
		`{"status":"completed","generated":["` + bin + `","https://h/archive.zip"]}`:                     {"generated"},
		`{"status":"completed","result":"https://h/page"}`:                                               {"result"},
		`{"status":"completed","result":{"other":"{\"a\":[\"https://h/x\"]}"}}`:                          {"other"},
		`{"status":"completed","somewhere":" https://h/x.png\n"}`:                                        {"somewhere"},
		`{"data":{"status":"completed","result":{}},"also":{"url":"https://h/x"}}`:                       {"also"},
		`{"status":"completed","result":{"x":"https://h/1"},"x":"https://h/2"}`:                          {"x", "x#2"},
		`{"status":"completed","result":{"map":{"https://h/x.bin":1}}}`:                                  {"map"},
		`{"status":"failed","result":{"preview":"https://h/x.png"}}`:                                     {"preview"},
		`{"status":"completed","input":{"image":"` + in + `"},"result":{}}`:                              {"input"},
		`{"status":"completed","result":{"thumbnail":{"url":"` + in + `"}},"webhook":"https://me/hook"}`: {"thumbnail", "webhook"},
	} {
		assets, ignored := found(t, body)
		if diff := cmp.Diff(want, ignored); diff != "" || len(assets) > 0 {
			t.Errorf("%s: took %q %s", body, assets, diff)
		}
	}
	// Next to an asset, too, also within its own object.
	assets, ignored := found(t, `{"status":"completed","result":{"images":[{"id":"x","url":"`+png+`","alpha":"https://h/alpha.exr"}],"layers":["https://h/l.psd.zip"]}}`)
	if diff := cmp.Diff([]string{"images.alpha", "layers"}, ignored); diff != "" || len(assets) != 1 {
		t.Errorf("%q %s", assets, diff)
	}
	// Prose is no URL.
	if _, ignored := found(t, `{"status":"failed","error_message":"see https://h/help","note":"see https://h/help for more"}`); len(ignored) > 0 {
		t.Errorf("%q", ignored)
	}
}

// What went into a run, or describes what came out, is no asset, and is not reported
// at every run that has some.
func TestCase_A13_WhatTheAPIRepeatsIsNoAsset(t *testing.T) {
	for _, more := range []string{
		`"input":{"image":"` + in + `"}`, `"inputs":[{"images":["` + in + `"]}]`, `"parameters":{"image_url":"` + in + `","video":{"url":"` + in + `"}}`,
		`"webhook":"https://me.example/hook"`, `"webhook_url":"https://me.example/hook.png"`, `"request":{"output":{"images":["` + in + `"]}}`,
		`"thumbnail":"` + in + `"`, `"preview_image":{"url":"` + in + `"}`, `"reference_images":["` + in + `"]`, `"image":"` + in + `"`,
		`"workflow":{"nodes":[{"image":"` + in + `"}]}`, `"start_frame":"` + in + `"`, `"user":{"avatar_url":"` + in + `"}`,
	} {
		for _, body := range []string{
			`{"data":{"status":"completed","result":{"images":[{"id":"x","url":"` + png + `"}]},` + more + `}}`,
			`{"data":{` + more + `,"status":"completed","result":{"images":[{"id":"x","url":"` + png + `"}]}}}`,
			`{"data":{"status":"completed","result":{"images":[{"id":"x","url":"` + png + `"}],"output":{"x":1}}}` + `,` + more + `}`,
		} {
			assets, ignored := found(t, body)
			if diff := cmp.Diff([]string{"images/x " + png}, assets); diff != "" {
				t.Errorf("%s: %s", body, diff)
			}
			if len(ignored) > 0 && !strings.HasPrefix(more, `"image":`) {
				t.Errorf("%s: ignored %q", body, ignored)
			}
		}
		if strings.HasPrefix(more, `"image":`) { // within the result it is output
			continue
		}
		body := `{"data":{"status":"completed","result":{"images":[{"id":"x","url":"` + png + `",` + more + `}],` + more + `}}}`
		if assets, ignored := found(t, body); len(assets) != 1 || len(ignored) > 0 {
			t.Errorf("%s: %q, ignored %q", body, assets, ignored)
		}
	}
}
