package dropfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

func TestCase_C1_TemporaryNamesAreNotThereYet(t *testing.T) {
	for _, name := range []string{
		"x.filepart", "x.txt.filepart", "x.partial", "x.txt.a1b2c3.partial", "x.crdownload", "Unconfirmed 12345.crdownload", "x.download",
		"x.!sync", "x.!Sync", "x.!ut", "x.!qB", "x.aria2", "x.opdownload", "x.part", "x.PART", "x.tmp", "X.TMP", "x.temp", "x.swp", "x.lock",
		".~lock.x#", "x~", ".x.AbCdEf", "~syncthing~x.tmp", ".syncthing.x.tmp", "x.fdmdownload", "x_.gstmp", "x.ytdl", "#x.txt#", ".#x.txt",
		"x.rslsPART", "x.bc!", "x.incomplete", ".in.x.txt", "~WRL0001.tmp",
		"x.txt.wkdownload", "x.WKDownload", "x.dtapart", "x.txt.crswap", "x.dctmp", "x.downloading", "x.UPLOADING", "x.copying", "x.writing", "x.fs_part", "x.txt_tmp",
	} {
		if !Pending(name) {
			t.Errorf("%s counts as whole", name)
		}
	}
	for _, name := range []string{
		"x.txt", "omps2OH829", "part", "tmp", "x.part.txt", "download", "partial.json", "x.downloads", "aria2", "x.lock.txt", "#", "a#", "x.tmpl",
		"Thumbs.db", "x.csv", "add-20060102T150405Z-abcdefghijklmnop.txt", "~x", "crdownload",
		"wkdownload", "x.parts", "x.tmp1.txt", "x.template", "tmp.", "party",
	} {
		if Pending(name) {
			t.Errorf("%s never counts as whole", name)
		}
	}
}

func TestCase_C1_AFileThatEndsWithinALineOrATextIsUnfinished(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       bool
	}{
		{"x.txt", "run1\nru", true},
		{"x.txt", "run1\nrun2\n", false},
		{"x.txt", "run1\r\nrun2", true},
		{"x.txt", "run1\r\n", false},
		{"x.txt", "run1\n# comm", true},
		{"x.txt", "run1\x00\x00", true},
		{"x", "run1", true},
		{"x", "run1\n", false},
		{"x.csv", "run_id,a\nrun1,b", true},
		{"x.csv", "run_id,a\nrun1,b\n", false},
		{"x.csv", "run_id,a\nrun1", true},
		{"x.jsonl", `{"run_id":"run1"}` + "\n" + `{"run_id":"ru`, true},
		{"x.jsonl", `"run1"`, true},
		{"x.ndjson", `"run1"` + "\n", false},
		{"x.json", `"run1"`, false},
		{"x.json", `["run1","ru`, true},
		{"x.json", `["run1","run2"`, true},
		{"x.json", "  ", true},
		{"x.json", `{`, true},
		{"x.json", "\x00\x00\x00\x00", true},
		{"x.json", `["no ID!"]`, false},
		{"x.JSON", `{"run_id":"run1"}`, false},
		{"run1", "", false},
	} {
		if got := Parse(c.name, []byte(c.data)).Unfinished; got != c.want {
			t.Errorf("%s %q: unfinished %v", c.name, c.data, got)
		}
	}
	if Parse("x.txt", []byte(strings.Repeat("run1\n", MaxSize))).Unfinished {
		t.Error("a file that is too large is waited for")
	}
}

func TestCase_C2_TheNameOfTheColumnIsNoRun(t *testing.T) {
	for _, header := range []string{
		"run_id", "RUN_ID", "Run ID", "run id", "id", "ID", "workflow_run_identifier", "workflow-run-identifier", "Workflow Run Identifier",
		"runId", "run-id", `"run_id"`, `'run_id'`, "\xef\xbb\xbfrun_id", "\xef\xbb\xbf\"run_id\"", "  run_id  ", "run_ids", "Run", "\n\n# list\nrun_id", "sep=;\nrun_id",
	} {
		for _, end := range []string{"\n", "\r\n"} {
			text := header + end + "omps2OH829" + end + "\"Xk20aa9Lq1\"" + end
			for _, name := range []string{"x.csv", "x.txt", "x"} {
				if got := brief(Parse(name, []byte(text))); got != "omps2OH829 Xk20aa9Lq1" {
					t.Errorf("%s %q: %s", name, text, got)
				}
			}
			r, err := ReadText(strings.NewReader(text))
			if got := brief(r); err != nil || got != "omps2OH829 Xk20aa9Lq1" {
				t.Errorf("stream %q: %s %v", text, got, err)
			}
		}
	}
	// Only a first line, and only a known name.
	for text, want := range map[string]string{
		"omps2OH829\nrun_id\n": "omps2OH829 run_id", "name\nomps2OH829\n": "name omps2OH829", "runner1\n": "runner1", "run_id\nrun_id\n": "run_id",
	} {
		if got := brief(Parse("x.txt", []byte(text))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestCase_C2_TheColumnOfATableIsTaken(t *testing.T) {
	for text, want := range map[string]string{
		"run_id,label\nrun1,a b\nrun2,\"c,d\"\n":                             "run1 run2",
		"label;Run ID\r\na;run1\r\nb;run2\r\n":                               "run1 run2",
		"a\trun_id\nx\trun1\n":                                               "run1",
		"sep=;\nid;x\nrun1;y\n":                                              "run1",
		"\"id\",\"run_id\"\n\"7\",\"run1\"\n":                                "run1",
		"run_id,id\nrun1,7\n":                                                "run1",
		"run_id,prompt\nrun1,\"blue\nsky, green\"\nrun2,\"two \"\"2\"\"\"\n": "run1 run2",
		"run_id,size\nrun1,5\" pipe\nrun2,6\" pipe\n":                        "run1 run2",
		"run_id, prompt\nrun1, \"a\nb\"\nrun2,x\n":                           "run1 run2",
		"run_id,label\n\n,\n# note\nrun1,a\n":                                "run1",
		"run_id,label\nrun1,a\nno,b\nx/y,c\n":                                "run1 !3 !4",
		"label,run_id\na\nb,run1\n":                                          "run1 !2",
		"run_id,label\nrun1,\"a\nrun2,b\n":                                   "!2",
		"run_id,label\nrun1,a":                                               "run1",
		"run1,label\nrun2,b\n":                                               "!1 !2",
	} {
		if got := brief(Parse("x.csv", []byte(text))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		r, err := ReadText(strings.NewReader(text))
		if got := brief(r); err != nil || got != want {
			t.Errorf("stream %q: %s %v, want %s", text, got, err, want)
		}
	}
	r := Parse("x.csv", []byte("run1,a\n"))
	if len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Reason, "name the columns in the first line") {
		t.Errorf("%v", r.Faults)
	}
	// A quote that is never closed costs one row of bounded size, not the file, and no time.
	r = Parse("x.csv", []byte("run_id,a\n\"run1\n"+strings.Repeat("run2,b\n", MaxSize/8)))
	if len(r.HandIns) != 1 || r.HandIns[0].ID != "run2" || len(r.Faults) != 1 || r.Faults[0].Line != 2 {
		t.Errorf("%d runs, faults %v", len(r.HandIns), r.Faults)
	}
}

func TestCase_C3_FilesOfFileManagersAreForeign(t *testing.T) {
	for _, name := range []string{
		"Thumbs.db", "thumbs.db", "THUMBS.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", "~$x.xlsx", "~$Book 1.XLSX", ".DS_Store", "._x.txt",
		"Icon\r", ".directory", ".localized", ".apdisk", "@eaDir", ".~lock.x.ods#", "x.txt@SynoEAStream",
	} {
		if !Foreign(name) {
			t.Errorf("%s is taken", name)
		}
	}
	for _, name := range []string{"x.txt", "omps2OH829", ".x.tmp", "thumbs", "desktop", "x.ini", "~x", "Icon", "x.db"} {
		if Foreign(name) {
			t.Errorf("%s is left alone", name)
		}
	}
}

func TestCase_C4_AnEmptyFileSaysHowItIsDoneRight(t *testing.T) {
	for name, want := range map[string]string{
		"omps2OH829.txt": `touch "omps2OH829"`, "a b": "name it as a run ID", "abc": "has 3 characters", "x.json": "write run IDs into it, one a line", "foo.tar.gz": "write run IDs into it, one a line",
		strings.Repeat("x", 65): "has 65 characters", "ü123": "holds 'ü'",
	} {
		if r := Parse(name, nil); !strings.Contains(r.Unwritten, want) || len(r.HandIns) > 0 {
			t.Errorf("%s: %q", name, r.Unwritten)
		}
		if r := Parse(name, nil); strings.Contains(r.Unwritten, "touch") && strings.Contains(name, ".") && name != "omps2OH829.txt" {
			t.Errorf("%s: %q names what is no run ID", name, r.Unwritten)
		}
	}
}

func TestWritten_KnowsTheNamesOfWriteOnly(t *testing.T) {
	paths, err := Write(t.TempDir(), []run.HandIn{{ID: "run1"}, {ID: "run2", Labels: map[string]string{"a": "b"}}})
	if err != nil || !Written(paths[0][strings.LastIndex(paths[0], "/")+1:]) {
		t.Errorf("%v %v", paths, err)
	}
	for _, name := range []string{"add-1.txt", "add-20060102T150405Z-abcdefghijklmnop.txt.part", "x-add-20060102T150405Z-abcdefghijklmnop.txt", fmt.Sprintf("%s.json", newName())} {
		if Written(name) {
			t.Errorf("%s counts as ours", name)
		}
	}
}
