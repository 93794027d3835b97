package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Copier makes a copy of the queue. The file belongs to the caller, and nobody else
// knows of it.
type Copier interface {
	Copy(ctx context.Context) (*os.File, error)
}

// backupTime bounds how long a copy may take on its way.
const backupTime = time.Hour

// backup sends a copy of the queue as it is. It is read from a file of its own: a
// client that is slow, or stops, holds nothing up.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	end := time.Now().Add(backupTime)
	control := http.NewResponseController(w)
	// The server's own limit for the request ends what is still answered, too.
	if err := errors.Join(control.SetReadDeadline(end), control.SetWriteDeadline(end)); err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	f, err := s.Copies.Copy(r.Context())
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/vnd.assetd.queue")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	w.Header().Set("Cache-Control", "no-store")
	io.Copy(w, f) //nolint:errcheck // the length tells the client that it is not whole
}

// Backup writes a copy of the daemon's queue to w, ErrNoDaemon where none runs. What
// came is to be checked by who uses it.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	resp, err := c.ask(ctx, &http.Client{Transport: c.http.Transport}, http.MethodGet, "/api/v1/backup", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problemError(resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("receiving the copy: %w", err)
	}
	return nil
}
