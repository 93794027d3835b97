package dropfile

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/assetd/assetd/internal/run"
)

// A text is the same text whichever way it comes.
func TestAStreamIsReadAsATextFileIs(t *testing.T) {
	for _, text := range []string{
		"", "run1", "run1\n", "\xef\xbb\xbfrun1\r\nrun2\r\n", "\n\n# note\n run1 # note\nrun1#x\n\tab\nrun1\n", "run1\n\nab",
		"\xff\xfer\x00u\x00n\x001\x00", "r\x00u\x00n\x001\x00", "run1\rrun2\r", "run_id,a\rrun1,1\r\nrun2,2\r", "run1\r\r\nab\r", "\xef\xbb", "\xef\xbb\xbf", "ab\n\xef\xbb\xbfrun1",
		"run1\n" + strings.Repeat("x", 70_000) + "\nrun2 " + "#" + strings.Repeat("x", 70_000) + "\nrun3\n",
	} {
		want := Parse("x.txt", []byte(text))
		want.Empty, want.Unwritten, want.Unfinished = false, "", false
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)), "end with data": iotest.DataErrReader(strings.NewReader(text)),
		} {
			got, err := ReadText(r)
			if err != nil {
				t.Errorf("%.40q %s: %v", text, name, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%.40q %s: %s", text, name, diff)
			}
		}
	}
}

func TestAStreamMayHoldMoreIDsThanAFile(t *testing.T) {
	var b strings.Builder
	for i := range MaxIDs + 1 {
		fmt.Fprintf(&b, "run%d%s\n", i, strings.Repeat("x", 45))
	}
	if r, err := ReadText(strings.NewReader(b.String())); err != nil || !r.OK() || len(r.HandIns) != MaxIDs+1 || b.Len() <= MaxSize {
		t.Errorf("%d IDs of %d bytes, %v, %v", len(r.HandIns), b.Len(), r.Faults, err)
	}
}

func TestAStreamThatFailsOrNeverEndsALineIsAnError(t *testing.T) {
	if _, err := ReadText(io.MultiReader(strings.NewReader("run1\n"), zeros{})); err == nil || !strings.Contains(err.Error(), "line 2 has more than 4194304 bytes") {
		t.Errorf("endless line: %v", err)
	}
	broken := errors.New("cable torn")
	for _, start := range []string{"", "run1\nru"} {
		if r, err := ReadText(io.MultiReader(strings.NewReader(start), iotest.ErrReader(broken))); !errors.Is(err, broken) || len(r.Faults) != 0 {
			t.Errorf("after %q: %v %v", start, err, r.Faults)
		}
	}
}

// zeros is a stream without a line's end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCase_C2_ACarriageReturnAloneEndsALine(t *testing.T) {
	for _, c := range []struct{ name, data string }{
		{"x.txt", "run1\rrun2\r"},
		{"x", "# note\rrun1\rrun2"},
		{"x.csv", "run_id\rrun1\rrun2\r"},
		{"x.csv", "run_id,shot\rrun1,1\rrun2,2\r"},
		{"x.csv", "\xef\xbb\xbfsep=;\rshot;Run ID\r1;run1\r2;run2\r"},
		{"x.csv", "shot,run_id\r\"a\rb\",run1\r,run2\r"},
		{"x.txt", "run1\r\nrun2\r\n"},
		{"x.txt", "run1\r\r\nrun2\r\r\n"},
		{"x.txt", "run1\rrun2\r\n\n"},
		{"x.jsonl", "\"run1\"\r{\"run_id\":\"run2\"}\r"},
		{"x.json", "[\"run1\",\r\"run2\"]\r"},
	} {
		in := []byte(c.data)
		r := Parse(c.name, in)
		ids := []run.ID{}
		for _, h := range r.HandIns {
			ids = append(ids, h.ID)
		}
		if diff := cmp.Diff([]run.ID{"run1", "run2"}, ids); diff != "" || !r.OK() {
			t.Errorf("%s %q: %v %s", c.name, c.data, r.Faults, diff)
		}
		if unfinished := !strings.ContainsAny(c.data[len(c.data)-1:], "\r\n"); r.Unfinished != unfinished {
			t.Errorf("%s %q: unfinished %v", c.name, c.data, r.Unfinished)
		}
		if string(in) != c.data {
			t.Errorf("%s %q: the caller's bytes are %q now", c.name, c.data, in)
		}
	}
	r := Parse("x.txt", []byte("run1\r\nrun2\rno ID\nab"))
	if len(r.Faults) != 2 || r.Faults[0].Line != 3 || r.Faults[1].Line != 4 {
		t.Errorf("lines of the faults: %v", r.Faults)
	}
	big := Parse("x.txt", []byte(strings.Repeat("run1\r\n", MaxSize/6)+"run2\rrun3345"))
	if len(big.HandIns) != 1 || len(big.Faults) != 1 || big.Faults[0].Line != MaxSize/6+1 {
		t.Errorf("cut at MaxSize: %d IDs, %v", len(big.HandIns), big.Faults)
	}
}
