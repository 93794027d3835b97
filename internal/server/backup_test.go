package server_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/server"
)

// copier gives this text as a copy, or fails.
type copier struct {
	dir, text string
	err       error
}

func (c *copier) Copy(context.Context) (*os.File, error) {
	if c.err != nil {
		return nil, c.err
	}
	path := filepath.Join(c.dir, "copy")
	if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	return f, errors.Join(err, os.Remove(path))
}

func TestACopyOfTheQueueComesThroughTheSocketWhole(t *testing.T) {
	dir, err := os.MkdirTemp("", "assetd") // a path short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := &copier{dir: dir, text: strings.Repeat("a queue\n", 1<<17)}
	s := open(t, server.Deps{Path: filepath.Join(dir, "sock"), Copies: c, Runs: shelf{}, Checks: checks{}, Now: busy{}})
	var got bytes.Buffer
	if err := server.NewClient(s.Path).Backup(t.Context(), &got); !errors.Is(err, server.ErrNoDaemon) {
		t.Errorf("without a daemon: %v", err)
	}
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	if err := server.NewClient(s.Path).Backup(t.Context(), &got); err != nil || got.String() != c.text {
		t.Errorf("%d of %d bytes, %v", got.Len(), len(c.text), err)
	}
	c.err = errors.New("too little room")
	got.Reset()
	if err := server.NewClient(s.Path).Backup(t.Context(), &got); err == nil || err.Error() != "too little room" || got.Len() > 0 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// copies is a queue that cannot be copied.
type copies struct{}

func (copies) Copy(context.Context) (*os.File, error) { return nil, errors.New("no copy today") }
