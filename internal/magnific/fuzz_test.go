package magnific

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func FuzzParse(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "completed.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, seed := range []string{
		`{"status":"running"}`,
		`{"data":{"status":"failed","error_message":"no","result":{"images":["https://h/1",{"id":1}],"x":[{"url":""}]}},"m":[1]}`,
		result(`"images":[{"id":"a","url":"https://h/1?preview=1"},{"id":"a","url":"https://h/1"},{"id":"a#2"}]`),
		"\uFEFF{ \"status\" : \"x\" , \"a\" : [ 1 , -2.5e3 , { } , [ ] , \"\\\"\\u12ab\" ] }",
		`{"status":"x","data":{"result":{"videos":{"url":"u"}}}}`,
		`{"status":"x","score":NaN,"a":[-Infinity,"NaN",Infinity]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := Parse(body)
		if err != nil {
			return
		}
		var anything any
		if plain, err := document(body); err != nil || json.Unmarshal(plain, &anything) != nil {
			t.Fatalf("read what is no JSON: %q", body)
		}
		seen := map[assetName]bool{}
		for _, l := range a.Assets {
			if name := (assetName{l.Kind, l.ID}); l.ID == "" || seen[name] {
				t.Fatalf("id %q of %q", l.ID, body)
			} else {
				seen[name] = true
			}
		}
		if a.Status == "" || len(a.Status) > maxStatus {
			t.Fatalf("status %q", a.Status)
		}
		if _, err := json.Marshal(a); err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
	})
}

func FuzzMembersAgreeWithEncodingJSON(f *testing.F) {
	f.Add([]byte(`{"a": {"b":[1,"]}"]}, "c\"" : -1.5e3 ,"d":null, "e":"\\"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if check(doc) != nil || doc[0] != '{' {
			return
		}
		fields, err := members(doc)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		if len(fields) != len(want) {
			t.Fatalf("%q: %d fields, want %d", doc, len(fields), len(want))
		}
		for _, m := range fields {
			if string(want[m.name]) != string(m.value) {
				t.Fatalf("%q: %q is %q, want %q", doc, m.name, m.value, want[m.name])
			}
			if isList(m.value) {
				var list []json.RawMessage
				if err := json.Unmarshal(m.value, &list); err != nil {
					t.Fatal(err)
				}
				i := 0
				for e := range elements(m.value) {
					if string(list[i]) != string(e) {
						t.Fatalf("%q: element %d is %q, want %q", m.value, i, e, list[i])
					}
					i++
				}
				if i != len(list) {
					t.Fatalf("%q: %d elements, want %d", m.value, i, len(list))
				}
			}
		}
	})
}
