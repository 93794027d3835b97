package magnific

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

func TestCase_A15_TheStatusKeepsTheAPIsSpelling(t *testing.T) {
	for spelled, want := range map[string]run.Status{
		"COMPLETED": "COMPLETED", " completed\\n": "completed", "canceled": "canceled", "Completed-With-Errors": "Completed-With-Errors",
		"                                                                                completed": "completed",
	} {
		a := parse(t, `{"data":{"status":"`+spelled+`"}}`)
		if a.Status != want || !a.Status.Terminal() || len(a.Extra) != 0 {
			t.Errorf("%q: %q, terminal %v, %v left over", spelled, a.Status, a.Status.Terminal(), a.Extra)
		}
	}
}

func TestCase_A16_NaNAndInfinityReadAsNull(t *testing.T) {
	for body, want := range map[string]map[string]string{
		`{"status":"completed","score":NaN}`:                                         {"score": "null"},
		`{"status":"completed","score":Infinity}`:                                    {"score": "null"},
		`{"status":"completed","score":-Infinity}`:                                   {"score": "null"},
		`{"status":"completed","a":[NaN,1,-Infinity , Infinity]}`:                    {"a": "[null,1,null,null]"},
		"{\"status\":\"completed\",\n \"deep\" : { \"a\" : [ { \"b\" : NaN\n} ] } }": {"deep": `{"a":[{"b":null}]}`},
		`{"status":"completed","s":"NaN, \"Infinity\" and -Infinity","t":NaN}`:       {"s": `"NaN, \"Infinity\" and -Infinity"`, "t": "null"},
		`{"status":"completed","NaN":"\\\\","Infinity":NaN}`:                         {"NaN": `"\\\\"`, "Infinity": "null"},
		"\uFEFF{\"status\":\"completed\",\"x\":NaN}\r\n\x00\x00\x00":                 {"x": "null"},
		"\x00{\"status\":\"completed\"}":                                             {},
	} {
		a := parse(t, body)
		got := map[string]string{}
		for name, raw := range a.Extra {
			got[name] = string(raw)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	a := parse(t, result(`"images":[{"id":"a","url":"https://h/a.png","width":NaN,"height":Infinity,"duration":-Infinity,"score":NaN}]`))
	if len(a.Assets) != 1 || a.Assets[0].Width != nil || a.Assets[0].Height != nil || a.Assets[0].Duration != nil || string(a.Assets[0].Extra["score"]) != "null" {
		t.Errorf("%+v", a.Assets)
	}
}

func TestCase_A16_OtherwiseJSONIsReadStrictly(t *testing.T) {
	for _, body := range []string{
		`{"status":"completed","x":nan}`, `{"status":"completed","x":inf}`, `{"status":"completed","x":+Infinity}`, `{"status":"completed","x":-NaN}`,
		`{"status":"completed","x":NaNa}`, `{"status":"completed","x":1NaN}`, `{"status":"completed",NaN:1}`, `{"status":"completed","x":Infinity1}`,
		`{"status":"completed","x":undefined}`, `{"status":"completed","x":'a'}`, `{"status":"completed","x":1,}`, `{"status":"completed"} // NaN`,
		`{"status":"completed","x":NaN`, `{"status":"completed","x":"NaN`, `{"status":"completed"}{}`, `NaN`, "{\"status\":\"comp\x00leted\"}",
		`{"status":NaN}`, `{"status":"completed","x":N\"aN}`, `{"status":"completed","x":NaN"}`,
	} {
		if a, err := Parse([]byte(body)); err == nil {
			t.Errorf("%s: %+v", body, a)
		}
	}
}
