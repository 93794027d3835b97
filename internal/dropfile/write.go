package dropfile

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// fileMode lets the drop directory's group read what another user of it wrote.
const fileMode = 0o640

// Write writes drop files with the hand-ins into the directory and gives their
// paths: one file, or as many as the limits of one ask for. When it returns
// without an error they survive power loss, and an inbox that watches the
// directory may have taken them already. The names are new each time; up to
// these names the files are such that Pending keeps back. It refuses IDs and
// labels that are not valid. With an error nothing was handed in, unless it says
// how many were.
func Write(dir string, ids []run.HandIn) (paths []string, err error) {
	if err := valid(ids); err != nil {
		return nil, err
	}
	ext := ".txt"
	for _, in := range ids {
		if len(in.Labels) > 0 {
			ext = ".jsonl"
		}
	}
	d, err := durable.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("write a drop file into %s: %w", dir, Explain(dir, err))
	}
	defer d.Close()
	var temps []string
	var upTo []int // so many IDs are in the files up to this one
	defer func() {
		for _, temp := range temps[len(paths):] {
			_ = durable.Remove(d, temp) // the first error is the one to report
		}
	}()
	for done := 0; done < len(ids); {
		data, n, err := encode(ids[done:], ext)
		if err != nil {
			return nil, err
		}
		temp := "." + newName() + ext + ".tmp"
		err = durable.Create(d, temp, func(f *os.File) error {
			if _, err := f.Write(data); err != nil {
				return err
			}
			share(f, d)
			return f.Chmod(fileMode) // whatever the umask says
		})
		if err != nil {
			return nil, fmt.Errorf("write a drop file into %s: %w", dir, Explain(dir, err))
		}
		done += n
		temps, upTo = append(temps, temp), append(upTo, done)
	}
	for i, temp := range temps {
		name := strings.TrimSuffix(temp[1:], ".tmp")
		if err := durable.Rename(d, temp, d, name); err != nil {
			if i > 0 {
				err = fmt.Errorf("the first %d of %d were handed in, the others were not: %w", upTo[i-1], len(ids), err)
			}
			return paths, fmt.Errorf("write a drop file into %s: %w", dir, Explain(dir, err))
		}
		paths = append(paths, filepath.Join(dir, name))
	}
	if err := durable.Sync(d); err != nil {
		return paths, fmt.Errorf("write a drop file into %s: all %d were handed in, but are not known to survive a power loss: %w", dir, len(ids), err)
	}
	return paths, nil
}

func newName() string {
	return "add-" + time.Now().UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:16])
}

// valid refuses what Parse would find a fault in.
func valid(ids []run.HandIn) error {
	if len(ids) == 0 {
		return errors.New("no run IDs to hand in")
	}
	for _, in := range ids {
		if !run.ValidID(string(in.ID)) {
			return fmt.Errorf("%s is no run ID: %s", Quote(string(in.ID)), whyNot(string(in.ID)))
		}
		if err := run.CheckLabels(in.Labels); err != nil {
			return fmt.Errorf("run %s: %w", in.ID, err)
		}
	}
	return nil
}

// encode is the content of a file with as many of the hand-ins as it may have,
// and how many these are: text, or JSON lines where there are labels.
func encode(ids []run.HandIn, ext string) (data []byte, n int, err error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, in := range ids[:min(len(ids), MaxIDs)] {
		before := b.Len()
		if ext == ".txt" {
			b.WriteString(string(in.ID) + "\n")
		} else if err := encoder.Encode(line{in.ID, in.Labels}); err != nil {
			return nil, 0, fmt.Errorf("run %s: encode its labels: %w", in.ID, err)
		}
		if b.Len() > MaxSize { // never the first: its labels are bounded
			b.Truncate(before)
			break
		}
		n++
	}
	return b.Bytes(), n, nil
}
