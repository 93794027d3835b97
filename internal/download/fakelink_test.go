package download_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// fakeLink is a line that all transfers share evenly but those that are held, which
// take nothing, and servers behind it that judge tokens when a request starts.
type fakeLink struct {
	w    *world
	rate int64 // bytes/s
	cuts bool  // transfers are cut when their URLs die

	mu      sync.Mutex
	reading int // transfers at full speed
	linkTally
}

// linkTally is what came over a line.
type linkTally struct {
	open    int             // connections
	most    int             // of them, ever
	held    map[string]bool // assets that were held at some time
	refused int
}

// tick is how often a transfer takes its share.
const tick = 100 * time.Millisecond

// narrowed puts all that the world fetches behind a line of so many bytes a second.
func (w *world) narrowed(rate int64) *fakeLink {
	l := &fakeLink{w: w, rate: rate, linkTally: linkTally{held: map[string]bool{}}}
	w.clk.skew["cdn"] = 0
	w.s.rule("https://", l.fetch)
	w.s.size = func(r transfer.Request) (int64, error) {
		size, _ := sized(r.URL)
		return size, nil
	}
	return l
}

// sizes are assets by name: of how many bytes, and how long their URLs live.
type sizes map[string]struct {
	bytes int64
	life  time.Duration
}

// many puts them in with one poll, on host cdn.
func (w *world) many(id run.ID, all sizes) {
	listed := map[run.Key]run.Listed{}
	for name, a := range all {
		listed[key(id, name)] = w.listed(key(id, name), signed("cdn", name, a.bytes, a.life), a.life)
	}
	w.answer(id, listed)
}

func signed(host, name string, bytes int64, life time.Duration) string {
	return fmt.Sprintf("https://%s/%s?size=%d&exp=%d", host, name, bytes, time.Now().Add(life).UnixNano())
}

func sized(raw string) (size int64, dies time.Time) {
	u, _ := url.Parse(raw)
	size, _ = strconv.ParseInt(u.Query().Get("size"), 10, 64)
	at, _ := strconv.ParseInt(u.Query().Get("exp"), 10, 64)
	return size, time.Unix(0, at)
}

func (l *fakeLink) fetch(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
	size, dies := sized(r.URL)
	fail := func(class transfer.Class, status int, err error) (transfer.Result, error) {
		f := failure(class, status, err)
		f.Host = host(r.URL)
		return transfer.Result{}, f
	}
	time.Sleep(tick) // a round trip
	if !time.Now().Before(dies) {
		l.count(func() { l.refused++ })
		return fail(transfer.Refused, 403, errors.New("expired"))
	}
	l.count(func() { l.open++; l.most = max(l.most, l.open) })
	defer l.count(func() { l.open-- })
	have, mark := p.Have()
	if have == 0 || mark.Total != size {
		have = 0
		progress(0, size)
		if err := p.Reset(run.PartMark{ETag: `"e"`, Total: size}); err != nil {
			return fail(transfer.Disk, 200, err)
		}
	}
	progress(have, size)
	reads := false
	defer func() { l.reads(&reads, false) }()
	for have < size {
		n, err := l.share(ctx, r, &reads)
		if err != nil {
			return fail(transfer.Canceled, 206, err)
		}
		if l.cuts && !time.Now().Before(dies) {
			return fail(transfer.Network, 206, errors.New("unexpected EOF"))
		}
		if n = min(n, size-have); n > 0 {
			have += n
			r.Throttle.Passed(int(n))
			l.w.v.grow(r.Key, n)
			progress(have, size)
		}
	}
	return transfer.Result{
		Whole:  run.Whole{Key: r.Key, Size: size, SHA256: sum(r.URL), Ext: ".png", At: time.Now()},
		Proven: true, Host: host(r.URL),
	}, nil
}

// share waits a tick and is what a transfer got of the line in it. Whether it reads is
// kept from tick to tick, so that those who wake in the same instant get the same.
func (l *fakeLink) share(ctx context.Context, r transfer.Request, reads *bool) (n int64, err error) {
	held := r.Throttle.Held()
	if held {
		l.count(func() { l.held[r.Key.ID] = true })
	}
	l.reads(reads, !held)
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(tick):
	}
	l.count(func() {
		if !held {
			n = l.rate * int64(tick) / int64(time.Second) / int64(l.reading)
		}
	})
	return n, nil
}

// reads notes whether a transfer takes its share from now on.
func (l *fakeLink) reads(was *bool, now bool) {
	l.count(func() {
		switch {
		case now && !*was:
			l.reading++
		case *was && !now:
			l.reading--
		}
	})
	*was = now
}

func (l *fakeLink) count(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

// tally is what came over the line until now.
func (l *fakeLink) tally() linkTally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.linkTally
	t.held = maps.Clone(l.held)
	return t
}

// grow counts bytes as written to the part.
func (v *fakeVolume) grow(key run.Key, n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.parts[key].thin += n
}
