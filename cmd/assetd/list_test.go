package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/run"
)

// writeCounter counts the writes, each of which is a system call where it is a file.
type writeCounter struct {
	bytes.Buffer
	writes int
}

func (w *writeCounter) Write(p []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(p)
}

func TestAListIsWrittenManyRowsAtATime(t *testing.T) {
	const runs = 2500
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(state, queue.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	var ids []run.HandIn
	for i := range runs {
		ids = append(ids, run.HandIn{ID: run.ID(fmt.Sprintf("run%05d", i))})
	}
	if _, err := q.Add(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}} {
		var out, messages writeCounter
		code := execute(t.Context(), append(args, "--config", os.DevNull, "--set", "data_dir="+dir), system{
			getenv: func(string) (string, bool) { return "", false }, environ: func() []string { return nil },
			stdout: &out, stderr: &messages,
		})
		if rows := bytes.Count(out.Bytes(), []byte("run0")); code != 0 || rows < runs {
			t.Fatalf("%v: exit %d, %d of %d rows\n%s", args, code, rows, runs, messages.String())
		}
		if most := out.Len()/(32<<10) + 1; out.writes > most {
			t.Errorf("%v: %d writes for %d bytes, want at most %d", args, out.writes, out.Len(), most)
		}
	}
}
