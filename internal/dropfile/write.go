package dropfile

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// fileMode lets the drop directory's group read what another user of it wrote.
const fileMode = 0o640

// Write writes a drop file with the hand-ins into the directory and gives its
// path. When it returns without an error the file survives power loss, and an
// inbox that watches the directory may have taken it already. The name is new
// each time; up to that name the file is one that Pending keeps back. It refuses
// what Parse would find a fault in: IDs and labels that are not valid, more than
// MaxIDs of them, a file of more than MaxSize.
func Write(dir string, ids []run.HandIn) (path string, err error) {
	data, ext, err := encode(ids)
	if err != nil {
		return "", err
	}
	name := "add-" + time.Now().UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:16])
	temp := filepath.Join(dir, "."+name+".tmp")
	path = filepath.Join(dir, name+ext)
	if err := writeSynced(temp, data); err != nil {
		return "", fmt.Errorf("write a drop file into %s: %w", dir, explain(err))
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp) // the error at hand is the one that tells
		return "", fmt.Errorf("write a drop file into %s: %w", dir, err)
	}
	if err := SyncDir(dir); err != nil {
		return "", fmt.Errorf("write a drop file into %s: the file is there, but not known to be safe: %w", dir, err)
	}
	return path, nil
}

// encode is the file's content: text, or JSON lines where there are labels.
func encode(ids []run.HandIn) (data []byte, ext string, err error) {
	if len(ids) == 0 {
		return nil, "", errors.New("no run IDs to hand in")
	}
	if len(ids) > MaxIDs {
		return nil, "", fmt.Errorf("%d run IDs are too many for one drop file, which has at most %d: hand them in in parts", len(ids), MaxIDs)
	}
	ext = ".txt"
	for _, in := range ids {
		if !run.ValidID(string(in.ID)) {
			return nil, "", fmt.Errorf("%s is no run ID: %s", quote(string(in.ID)), whyNot(string(in.ID)))
		}
		n := 0
		for name, value := range in.Labels {
			if why := badLabel(name, value, n); why != "" {
				return nil, "", fmt.Errorf("run %s, label %s: %s", in.ID, quote(name), strings.TrimSuffix(why, ": left out"))
			}
			n++
		}
		if n > 0 {
			ext = ".jsonl"
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, in := range ids {
		if ext == ".txt" {
			b.WriteString(string(in.ID) + "\n")
		} else if err := encoder.Encode(line{in.ID, in.Labels}); err != nil {
			return nil, "", fmt.Errorf("run %s: encode its labels: %w", in.ID, err)
		}
		if b.Len() > MaxSize {
			return nil, "", fmt.Errorf("%d run IDs with their labels take more than the %d bytes of one drop file: hand them in in parts", len(ids), MaxSize)
		}
	}
	return b.Bytes(), ext, nil
}

// writeSynced makes a new file whose bytes are on the disk, or none.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
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

// explain adds what to do to errors that a person meets here.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: is drop.dir right? The daemon makes the directory at its start", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: user %s needs to be in the directory's group", err, strconv.Itoa(os.Geteuid()))
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
