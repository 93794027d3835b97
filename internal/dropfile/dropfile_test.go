package dropfile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/assetd/assetd/internal/run"
	"github.com/google/go-cmp/cmp"
)

// brief is a result in one line: IDs with labels, then faults.
func brief(r Result) string {
	var parts []string
	for _, in := range r.HandIns {
		s := string(in.ID)
		if in.Labels != nil {
			s += fmt.Sprint(in.Labels)[3:]
		}
		parts = append(parts, s)
	}
	for _, f := range r.Faults {
		parts = append(parts, fmt.Sprintf("!%d", f.Line))
	}
	if r.Unwritten != "" {
		parts = append(parts, "unwritten")
	}
	if r.Duplicates > 0 {
		parts = append(parts, fmt.Sprintf("twice:%d", r.Duplicates))
	}
	return strings.Join(parts, " ")
}

func TestEveryFormOfDropFileIsRead(t *testing.T) {
	for _, c := range []struct{ file, data, want string }{
		{"omps2OH829", "", "omps2OH829"},
		{"omps2OH829", "\xef\xbb\xbf", "omps2OH829"},
		{"omps2OH829.txt", "", "unwritten"},
		{"omps2OH829.json", "", "unwritten"},
		{"a.b", "", "unwritten"},
		{"ab", "", "unwritten"},
		{"two words", "", "unwritten"},
		{"omps2OH829", "run1", "run1"},

		{"x.txt", "run1\nrun2\n", "run1 run2"},
		{"x.txt", "run1\r\nrun2", "run1 run2"},
		{"x.txt", "\xef\xbb\xbfrun1\n", "run1"},
		{"x.csv", "  run1\t\n\n \n# note\n  # note\nrun2 # note\nrun3\t#note\n", "run1 run2 run3"},
		{"x.txt", "run1\nrun1\nRUN1\n", "run1 RUN1 twice:1"},
		{"x.txt", "run1#note\nrun2", "run2 !1"},
		{"x.txt", "run1 run2\nabc\n" + strings.Repeat("a", 64) + "\n" + strings.Repeat("a", 65) + "\n../x\nok_-9", strings.Repeat("a", 64) + " ok_-9 !1 !2 !4 !5"},
		{"x.txt", "# nothing\n", ""},
		{"x.txt", "\xff\xfer\x00u\x00n\x001\x00", "!0"},
		{"x.json", "\xfe\xff\x00\"\x00r", "!0"},
		{"x.txt", "r\x00u\x00n\x001\x00\n\x00", "!0"},
		{"x.txt", "run1\n\x00\x01\x02\nrun2", "run1 run2 !2"},

		{"x.json", `"run1"`, "run1"},
		{"X.JSON", "\xef\xbb\xbf[\"run1\",\n[\"run2\"],{\"run_id\":\"run3\"}]", "run1 run2 run3"},
		{"x.json", `{"workflow_run_identifier":"run1"}`, "run1"},
		{"x.json", `{"run_ids":["run1","run2"],"labels":{"a":"b"}}`, "run1[a:b] run2[a:b]"},
		{"x.json", `{"data":{"run_id":"run1"},"labels":{"a":"b"}}`, "run1[a:b]"},
		{"x.json", `{"labels":{"a":"outer","c":"d"},"data":{"run_id":"run1","labels":{"a":"inner"}},"run_id":"run2"}`, "run1[a:inner c:d] run2[a:outer c:d]"},
		{"x.json", `{"data":[{"run_id":"run1","labels":{"a":"b"}},{"run_id":"run2"}]}`, "run1[a:b] run2"},
		{"x.json", `[{"run_id":"run1","labels":{"a":"b"}},{"run_id":"run1","labels":{"a":"c","d":"e"}}]`, "run1[a:b d:e] twice:1"},
		{"x.json", `{"workflow_run_identifier":"run1","run_id":null,"data":"x"}`, "run1"},
		{"x.json", "[]", ""},
		{"x.json", "[\n\"run1\",\n\"no\",\n7,\ntrue,\n{},\n{\"run_id\":7},\n{\"run_ids\":[[\"run8\"],\"run2\"]},\nnull]", "run1 run2 !3 !4 !5 !6 !7 !8 !9"},
		{"x.json", "[\"run1\",\n\"run2\",\n\"ru", "run1 run2 !3"},
		{"x.json", "[\"run1\",\n{\"run_id\":\"run2\",\n\"x\":[[[", "run1 run2 !3"},
		{"x.json", "[\"run1\",\n\"run2\"\n\"run3\"]", "run1 run2 !3"},
		{"x.json", "\"run1\"\n\"run2\"", "run1 run2 !2"},
		{"x.json", "omps2OH829", "!1"},
		{"x.json", " \n", "!1"},
		{"x.json", `{"message":"not found"}`, "!1"},
		{"x.json", `{"data":[7,["a"],{"run_id":"run1"}]}`, "run1 !1 !1"},
		{"x.json", strings.Repeat("[", 1<<20), "!1"},
		{"x.json", strings.Repeat(`{"data":`, 1<<18), "!1"},
		{"x.json", `{"run_id":"run1","x":` + strings.Repeat("[", 1<<20), "run1 !1"},
		{"x.json", `{"run_id":["run1",` + strings.Repeat("[", 1<<20), "run1 !1 !1"},

		{"x.jsonl", "\"run1\"\n\n{\"run_id\":\"run2\",\"labels\":{\"a\":\"b\"}}\r\n[\"run3\"]", "run1 run2[a:b] run3"},
		{"x.NDJSON", "\"run1\"\n{\"run_id\":\nrun3\n\"run4\" \"run5\"\n", "run1 run4 run5 !2 !3 !4"},

		{"x.json", `{"run_id":"run1","labels":["a"]}`, "run1 !1"},
		{"x.json", `{"run_id":"run1","labels":{"a":1,"b":null,"":"x","c":"d"}}`, "run1[c:d] !1 !1 !1"},
		{"x.json", `{"run_id":"run1","labels":null}`, "run1"},
		{"x.json", `{"run_id":"run1","labels":{"` + strings.Repeat("n", 129) + `":"x","a":"` + strings.Repeat("v", 1025) + `"}}`, "run1 !1"},
	} {
		if got := brief(Parse(c.file, []byte(c.data))); got != c.want {
			t.Errorf("%s %.60q:\n got %s\nwant %s", c.file, c.data, got, c.want)
		}
	}
}

// A fault of one line of many must not read as if the file ended there.
func TestAFaultSaysHowMuchWasNotRead(t *testing.T) {
	for _, c := range []struct{ file, data, want string }{
		{"x.jsonl", "run1\n\"run2\"", "the rest of the line was not read"},
		{"x.jsonl", "{\"run_id\":\n\"run2\"", "breaks off at the end of the line"},
		{"x.jsonl", "\"run1\" \"run2\"", "one a line"},
		{"x.json", "run1", "the rest of the file was not read"},
		{"x.json", "[\"run1\",", "breaks off at the end of the file"},
		{"x.json", "\"run1\" \"run2\"", "name the file .jsonl"},
	} {
		if r := Parse(c.file, []byte(c.data)); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Reason, c.want) {
			t.Errorf("%s %q: %v, want %s", c.file, c.data, r.Faults, c.want)
		}
	}
}

func TestTheAPIsOwnAnswersAreDropFiles(t *testing.T) {
	answer := `{"data": {"run_id": "omps2OH829", "status": "completed", "app_id": "uqzQLDr2Aw", "error_message": null,
  "result": {"images": [{"id": "abc123", "url": "https://h/render.png?token=exp_1~hmac_2", "width": 1024}], "videos": []}}}`
	for _, data := range []string{answer, `{"data":{"workflow_run_identifier":"omps2OH829","status":"pending"}}`, `{"run_id":"omps2OH829","status":"failed"}`} {
		if got := brief(Parse("saved.json", []byte(data))); got != "omps2OH829" {
			t.Errorf("%s: %s", data, got)
		}
	}
}

func TestWhatLiesBeyondTheLimitsIsNamedAndTheRestTaken(t *testing.T) {
	var b strings.Builder
	for i := range MaxIDs + 10 {
		fmt.Fprintf(&b, "run%06d\n", i)
	}
	many := b.String()
	r := Parse("x.txt", []byte(many))
	if len(r.HandIns) != MaxIDs || len(r.Faults) != 1 || r.Faults[0].Line != MaxIDs+1 {
		t.Errorf("%d IDs, %v", len(r.HandIns), r.Faults)
	}
	list := `["` + strings.Join(strings.Fields(many), "\",\n\"") + `"]`
	if r := Parse("x.json", []byte(list)); len(r.HandIns) != MaxIDs || len(r.Faults) != 1 || r.Faults[0].Line != MaxIDs+1 {
		t.Errorf("json: %d IDs, %v", len(r.HandIns), r.Faults)
	}

	// The limit cuts the last ID in two; the half is not taken for an ID.
	for _, name := range []string{"x.txt", "x.jsonl", "x.json"} {
		line, start := "run1\n", ""
		switch name {
		case "x.jsonl":
			line = "\"run1\"\n"
		case "x.json":
			line, start = "\"run1\",\n", "["
		}
		line = strings.Repeat(" ", 64-len(line)) + line
		data := start + strings.Repeat(line, MaxSize/len(line)-1)
		last := strings.Replace(line, "run1", strings.Repeat("x", 60), 1)
		r := Parse(name, []byte(data+last))
		if got := brief(Result{HandIns: r.HandIns, Faults: r.Faults}); got != fmt.Sprintf("run1 !%d", MaxSize/len(line)) {
			t.Errorf("%s: %s %v", name, got, r.Faults)
		}
	}
	if r := Parse("x.bin", make([]byte, MaxSize+1)); len(r.HandIns) != 0 || r.OK() {
		t.Errorf("one endless line: %v", r)
	}
}

// Labels beyond a limit cost the labels, never the run.
func TestCase_A14_LabelsBeyondALimitAreAFaultAndTheRunIsTakenWithoutThem(t *testing.T) {
	set := func(labels, size int) string {
		var all []string
		for i := range labels {
			all = append(all, fmt.Sprintf("%q:%q", fmt.Sprintf("name%02d", i), strings.Repeat("v", size-len("name00"))))
		}
		return "{" + strings.Join(all, ",") + "}"
	}
	for name, c := range map[string]struct {
		labels string
		reason string // empty: good
		kept   int
	}{
		"17 of 1,024 bytes":  {set(17, 1024), "17408 bytes", 0},
		"16 of 1,024 bytes":  {set(16, 1024), "", 16},
		"one byte too many":  {set(16, 1024)[:1] + `"a":"",` + set(16, 1024)[1:], "16385 bytes", 0},
		"65 labels":          {set(65, 100), "65 labels", 0},
		"64 labels":          {set(64, 100), "", 64},
		"1,025 bytes, value": {`{"a":"` + strings.Repeat("v", 1025) + `","b":"c"}`, "1025 bytes", 0},
		"129 bytes, name":    {`{"` + strings.Repeat("n", 129) + `":"x","b":"c"}`, "129 bytes", 0},
		"5,000 labels":       {set(5000, 16), "5000 labels", 0},
		"escaped":            {`{"a":"` + strings.Repeat(`\u00e9`, 513) + `"}`, "1026 bytes", 0},
	} {
		for file, text := range map[string]string{
			"x.jsonl": `{"run_id":"run1","labels":` + c.labels + "}\n\"run2\"\n",
			"x.json":  `[{"run_id":"run1","labels":` + c.labels + `},"run2"]`,
			"y.json":  `{"data":{"run_id":"run1"},"labels":` + c.labels + `,"run_ids":["run2"]}`,
		} {
			r := Parse(file, []byte(text))
			ok := len(r.HandIns) == 2 && len(r.HandIns[0].Labels) == c.kept
			if c.reason == "" {
				ok = ok && r.OK()
			} else {
				ok = ok && len(r.Faults) == 1 && r.Faults[0].Line == 1 && r.Faults[0].Labels && strings.Contains(r.Faults[0].Reason, c.reason)
			}
			if !ok {
				t.Errorf("%s in %s: %d runs, faults %v", name, file, len(r.HandIns), r.Faults)
			}
		}
	}
	// Each set is small enough, but not both.
	r := Parse("x.jsonl", []byte(`{"run_id":"run1","labels":`+set(64, 100)+"}\n"+`{"run_id":"run1","labels":{"a":"b"}}`+"\nrun2\n"))
	if len(r.HandIns) != 1 || len(r.HandIns[0].Labels) != 64 || len(r.Faults) != 2 || !r.Faults[0].Labels || r.Faults[0].Line != 2 || r.Faults[1].Labels {
		t.Errorf("%d runs, faults %v", len(r.HandIns), r.Faults)
	}
}

func TestLabelsOfManyRunsAreBounded(t *testing.T) {
	var labels, ids []string
	for i := range 15 {
		labels = append(labels, fmt.Sprintf("%q:%q", fmt.Sprintf("name%02d", i), strings.Repeat("v", run.MaxLabelValue)))
	}
	for i := range 10_000 {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprintf("run%d", i)))
	}
	object := fmt.Sprintf(`{"labels":{%s},"run_ids":[%s]}`, strings.Join(labels, ","), strings.Join(ids, ","))
	r := Parse("x.json", []byte(object))
	if len(r.HandIns) != 10_000 || r.HandIns[9].Labels != nil || len(r.Faults) != 1 {
		t.Errorf("%d runs, %v", len(r.HandIns), r.Faults)
	}
}

func TestFaultsQuoteSafelyAndShortly(t *testing.T) {
	const secret = "PLANTED5ecret"
	for data, want := range map[string]string{
		"https://h/p.png?token=exp=1~hmac=" + secret: `"https://h/p.png": a URL, not a run ID`,
		"\x1b[31m\u202eevil\x07":                     `"\x1b[31m\u202eevil\a": holds '\x1b'`,
		strings.Repeat("x", 10_000):                  `"` + strings.Repeat("x", 40) + `"...: has 10000 characters`,
		"é€" + strings.Repeat("ü", 50):               `"é€` + strings.Repeat("ü", 38) + `"...: holds 'é'`,
		"a\xffbc":                                    `"a\xffbc": holds bytes that are not UTF-8`,
		"run1,run2":                                  `"run1,run2": not one run ID`,
		"abc":                                        `"abc": has 3 characters; a run ID has 4 to 64`,
	} {
		r := Parse("x.txt", []byte(data))
		if len(r.Faults) != 1 || !strings.HasPrefix(r.Faults[0].String(), "line 1: "+want) {
			t.Errorf("%.40q: %v, want %s", data, r.Faults, want)
		}
	}
	for _, name := range []string{"x.txt", "x.json", "x.jsonl", "https:..h?token=" + secret} {
		r := Parse(name, []byte("{\"run_ids\":7, \"url\":\"https://h/p?token="+secret+"\", \"labels\":[\"https://h?"+secret+"\"]"))
		if report := r.Report(name); r.OK() || strings.Contains(report, secret) {
			t.Errorf("%s: the report tells the token:\n%s", name, report)
		}
	}
}

func TestTheReportSaysWhatWasTakenAndWhatNot(t *testing.T) {
	got := Parse("list.txt", []byte("run1\nno\nrun2\n")).Report("list.txt")
	want := `"list.txt" was not accepted as a whole: 2 IDs were taken, 1 fault was found.

line 2: "no": has 2 characters; a run ID has 4 to 64

Mend the file and put it into the drop directory again: an ID that is known already costs nothing.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r := Parse("x.txt", []byte(strings.Repeat("x\n", MaxSize/2)))
	if report := r.Report("x.txt"); len(report) > 200_000 || !strings.Contains(report, fmt.Sprintf("and %d more\n", MaxSize/2-maxFaults)) {
		t.Errorf("report of %d bytes does not tell how many more", len(report))
	}
}

func TestNamesThatAreNotYetThere(t *testing.T) {
	for name, want := range map[string]bool{
		".x": true, "a.tmp": true, "a.part": true, ".a.swp": true, "a.swp": true, "a.txt~": true,
		"a": false, "a.txt": false, "tmp": false, "a.tmp.txt": false, "a.TMP": true, "x.error": false,
	} {
		if Pending(name) != want {
			t.Errorf("Pending(%q) = %v", name, !want)
		}
	}
}

func FuzzParse(f *testing.F) {
	const secret = "PLANTED5ecret"
	for name, data := range map[string]string{
		"run1": "", "x.txt": "run1 # a\r\nhttps://h/?t=1\n", "x.json": `{"data":{"run_ids":["run1",7],"labels":{"a":"b"}}}`,
		"x.jsonl": "\"run1\"\n[[{}]]\n", "y.json": `[{"run_id":"run1"},`, "z": "\xff\xfer\x00",
	} {
		f.Add(name, []byte(data))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r := Parse(name, data)
		seen := map[run.ID]bool{}
		for _, in := range r.HandIns {
			if !run.ValidID(string(in.ID)) || seen[in.ID] {
				t.Fatalf("took %q", in.ID)
			}
			seen[in.ID] = true
			if err := run.CheckLabels(in.Labels); err != nil {
				t.Fatalf("run %s: %v", in.ID, err)
			}
		}
		if len(r.HandIns) > MaxIDs || len(r.Faults) > maxFaults {
			t.Fatalf("%d IDs, %d faults", len(r.HandIns), len(r.Faults))
		}
		for _, f := range r.Faults {
			if f.Reason == "" || strings.ContainsFunc(f.Quote, unicode.IsControl) {
				t.Fatalf("fault %q", f)
			}
		}
		if bytes.Contains(data, []byte(secret)) || strings.Contains(name, secret) {
			return
		}
		r = Parse(name, append(data, " https://h/p?token="+secret...))
		if strings.Contains(r.Report("x"), secret) {
			t.Fatalf("the report tells the token: %s", r.Report("x"))
		}
	})
}

// Whatever a text is cut into, what Parse takes of its beginning it takes of the
// whole, but for an ID that the cut made.
func TestHalfAFileGivesNoIDThatTheWholeDoesNot(t *testing.T) {
	whole := `[{"run_id":"run1","labels":{"a":"b"}},{"data":{"run_ids":["run2long","run3long"]}},"run4long"]`
	all := map[run.ID]bool{}
	for _, in := range Parse("x.json", []byte(whole)).HandIns {
		all[in.ID] = true
	}
	for n := 1; n < len(whole); n++ {
		r := Parse("x.json", []byte(whole[:n]))
		if r.OK() {
			t.Errorf("half a file passed as whole: %s", whole[:n])
		}
		for _, in := range r.HandIns {
			if !all[in.ID] {
				t.Errorf("%s gave %s", whole[:n], in.ID)
			}
		}
	}
}

func TestRandomBytesNeverPanic(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"{", "}", "[", "]", ",", ":", `"run_id"`, `"data"`, `"labels"`, `"run_ids"`, `"run1"`, "7", "null", "\n", " ", `"`, "\\"}
	for range 5_000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		Parse("x.json", []byte(b.String()))
	}
}

func TestCase_A16_TheAPIsAnswerWithNaNIsADropFile(t *testing.T) {
	for name, text := range map[string]string{
		"answer.json":   `{"data":{"run_id":"omps2OH829","score":NaN,"range":[-Infinity,Infinity]}}`,
		"lines.jsonl":   `{"run_id":"omps2OH829","score":NaN}` + "\n" + `"omps2OH829"` + "\n",
		"labels.json":   `{"run_id":"omps2OH829","labels":{"shot":"NaN"},"cost":Infinity}`,
		"callback.json": "{\"workflow_run_identifier\":\"omps2OH829\",\n\"score\":NaN}",
	} {
		got := Parse(name, []byte(text))
		if len(got.Faults) != 0 || len(got.HandIns) == 0 || got.HandIns[0].ID != "omps2OH829" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCase_A14_TheReportSaysWhatBecameOfTheRuns(t *testing.T) {
	long := strings.Repeat("v", run.MaxLabelValue+1)
	for data, want := range map[string]string{
		`{"run_id":"run1","labels":{"a":"` + long + `"}}`: "line 1: the value of label \"a\" has 1025 bytes: at most 1024: the runs were taken without labels\n",
		`{"run_id":"run1","labels":{"a":1}}`:              "line 1: \"a\": the value of this label is not a string: left out\n",
		`{"run_id":"run1","labels":["a"]}`:                "labels is not an object of strings: left out\n",
		`{"run_id":"run1","labels":{"":"a"}}`:             "line 1: a label without a name: left out\n",
	} {
		r := Parse("x.json", []byte(data))
		if text := r.Report("x.json"); len(r.HandIns) != 1 || !strings.Contains(text, want) {
			t.Errorf("%.60s: %d IDs, %s", data, len(r.HandIns), text)
		}
	}
}
