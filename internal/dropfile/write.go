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
	"syscall"
	"time"

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
	var temps []string
	var upTo []int // so many IDs are in the files up to this one
	defer func() {
		for _, temp := range temps[len(paths):] {
			_ = os.Remove(temp) // the error at hand is the one that tells
		}
	}()
	for done := 0; done < len(ids); {
		data, n, err := encode(ids[done:], ext)
		if err != nil {
			return nil, err
		}
		temp := filepath.Join(dir, "."+newName()+ext+".tmp")
		if err := writeSynced(temp, data); err != nil {
			return nil, fmt.Errorf("write a drop file into %s: %w", dir, Explain(dir, err))
		}
		done += n
		temps, upTo = append(temps, temp), append(upTo, done)
	}
	for i, temp := range temps {
		path := filepath.Join(dir, strings.TrimSuffix(filepath.Base(temp)[1:], ".tmp"))
		if err := os.Rename(temp, path); err != nil {
			if i > 0 {
				err = fmt.Errorf("the first %d of %d were handed in, the others were not: %w", upTo[i-1], len(ids), err)
			}
			return paths, fmt.Errorf("write a drop file into %s: %w", dir, Explain(dir, err))
		}
		paths = append(paths, path)
	}
	if err := SyncDir(dir); err != nil {
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
		n := 0
		for name, value := range in.Labels {
			if why := badLabel(name, value, n); why != "" {
				return fmt.Errorf("run %s, label %s: %s", in.ID, Quote(name), strings.TrimSuffix(why, ": left out"))
			}
			n++
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

// writeSynced makes a new file whose bytes are on the disk, or none.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		share(f, filepath.Dir(path))
		err = f.Chmod(fileMode) // whatever the umask says
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// SyncDir makes the names in a directory durable. File systems that cannot sync a
// directory (CIFS before Linux 4.17, some FUSE) are let pass.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOTTY) {
		err = nil
	}
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
