package download_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// fetchFunc is what a host does with a request.
type fetchFunc func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error)

// request is one that was made.
type request struct {
	key run.Key
	url string
	at  time.Duration // since the start
}

// fakeServers answers requests by the host's rule, or the default one.
type fakeServers struct {
	mu       sync.Mutex
	begin    time.Time
	by       map[string]fetchFunc // by URL prefix; the longest counts
	requests []request
	sized    []request // for sizes
	size     func(transfer.Request) (int64, error)
	looked   []request // for what there is
	look     func(transfer.Request) (transfer.Facts, error)
	now, max int // requests at a time
}

func (s *fakeServers) Fetch(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
	s.mu.Lock()
	s.requests = append(s.requests, request{r.Key, r.URL, time.Since(s.begin)})
	s.now++
	s.max = max(s.max, s.now)
	do, longest := serve("body of "+r.Key.ID, 100*time.Millisecond), -1
	for prefix, f := range s.by {
		if strings.HasPrefix(r.URL, prefix) && len(prefix) > longest {
			do, longest = f, len(prefix)
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	return do(ctx, r, p, progress)
}

func (s *fakeServers) Size(_ context.Context, r transfer.Request) (int64, error) {
	s.mu.Lock()
	s.sized = append(s.sized, request{r.Key, r.URL, time.Since(s.begin)})
	tell := s.size
	s.mu.Unlock()
	if tell == nil {
		return -1, nil
	}
	return tell(r)
}

func (s *fakeServers) Look(_ context.Context, r transfer.Request) (transfer.Facts, error) {
	s.mu.Lock()
	s.looked = append(s.looked, request{r.Key, r.URL, time.Since(s.begin)})
	tell := s.look
	s.mu.Unlock()
	if tell == nil {
		return transfer.Facts{Total: -1}, nil
	}
	return tell(r)
}

func (s *fakeServers) rule(prefix string, f fetchFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[prefix] = f
}

// of are the requests whose URL starts so.
func (s *fakeServers) of(prefix string) (some []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.HasPrefix(r.url, prefix) {
			some = append(some, r)
		}
	}
	return some
}

func (s *fakeServers) times(prefix string) (at []time.Duration) {
	for _, r := range s.of(prefix) {
		at = append(at, r.at)
	}
	return at
}

func sum(body string) string {
	s := sha256.Sum256([]byte(body))
	return hex.EncodeToString(s[:])
}

// serve sends a body, whole and proven, half of it at once and half after so long.
func serve(body string, took time.Duration) fetchFunc { return send(body, took, true) }

// send goes on from what the part holds, like a server with ranges.
func send(body string, took time.Duration, proven bool) fetchFunc {
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		total := int64(len(body))
		have, mark := p.Have()
		if have == 0 || mark.Total != total {
			mark = run.PartMark{Total: -1}
			if proven {
				mark = run.PartMark{ETag: `"e"`, Total: total}
			}
			if err := p.Reset(mark); err != nil {
				return transfer.Result{}, failure(transfer.Disk, 200, err)
			}
			have = 0
		}
		progress(have, total)
		if err := p.Reserve(total - have); err != nil {
			return transfer.Result{}, failure(transfer.NoRoom, 200, err)
		}
		half := max(have, total/2)
		for _, end := range []int64{half, total} {
			if _, err := io.WriteString(p, body[have:end]); err != nil {
				return transfer.Result{}, failure(transfer.Disk, 200, err)
			}
			have = end
			progress(have, total)
			select {
			case <-ctx.Done():
				return transfer.Result{}, failure(transfer.Canceled, 200, context.Cause(ctx))
			case <-time.After(took / 2):
			}
		}
		return transfer.Result{
			Whole:  run.Whole{Key: r.Key, Size: total, SHA256: sum(body), Ext: ".png", At: time.Now()},
			Proven: proven, Host: host(r.URL),
		}, nil
	}
}

func host(url string) string {
	url = strings.TrimPrefix(url, "https://")
	name, _, _ := strings.Cut(url, "/")
	return name
}

func failure(class transfer.Class, status int, err error) *transfer.Failure {
	return &transfer.Failure{Class: class, Status: status, Err: err}
}

// refuse answers with a status, at once.
func refuse(class transfer.Class, status int) fetchFunc { return retryAfter(class, status, 0) }

func retryAfter(class transfer.Class, status int, after time.Duration) fetchFunc {
	return func(_ context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		f := failure(class, status, errors.New(string(class)))
		f.Host, f.RetryAfter = host(r.URL), after
		return transfer.Result{}, f
	}
}

// slowly does it after so long.
func slowly(d time.Duration, f fetchFunc) fetchFunc {
	return func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		time.Sleep(d)
		return f(ctx, r, p, progress)
	}
}

// hang answers nothing for so long.
func hang(d time.Duration) fetchFunc {
	return func(ctx context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		select {
		case <-ctx.Done():
			return transfer.Result{}, failure(transfer.Canceled, 0, context.Cause(ctx))
		case <-time.After(d):
		}
		f := failure(transfer.Network, 0, errors.New("dial: timed out"))
		f.Host = host(r.URL)
		return transfer.Result{}, f
	}
}
