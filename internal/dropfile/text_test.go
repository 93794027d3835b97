package dropfile

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// A text is the same text whichever way it comes.
func TestAStreamIsReadAsATextFileIs(t *testing.T) {
	for _, text := range []string{
		"", "run1", "run1\n", "\xef\xbb\xbfrun1\r\nrun2\r\n", "\n\n# note\n run1 # note\nrun1#x\n\tab\nrun1\n", "run1\n\nab",
		"\xff\xfer\x00u\x00n\x001\x00", "r\x00u\x00n\x001\x00", "\xef\xbb", "\xef\xbb\xbf", "ab\n\xef\xbb\xbfrun1",
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
