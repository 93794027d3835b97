package download_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// A body that its digest contradicts is fetched once more, without Range; the fetcher
// is told what came before.
func TestCase_A10_AgreeingFetchesAreStored(t *testing.T) {
	for name, c := range map[string]struct {
		bodies []string // in turn, the last for all that follow
		want   int      // fetches until it is stored; 0: never
	}{
		"always the same":                {[]string{gif}, 2},
		"damaged once":                   {[]string{gif + "x", gif}, 3},
		"damaged in between":             {[]string{gif, gif + "x", gif}, 4},
		"another one each time, for now": {[]string{"1", "2", "3", "4", gif}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(w *world) {
				k := w.add("run1", "a", "https://cdn/a", 200*hour)
				var plain []bool
				w.s.rule("https://cdn/", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
					body := c.bodies[min(len(plain), len(c.bodies)-1)]
					plain = append(plain, r.Plain)
					if r.Before == sum(body) {
						return serve(body, 0)(ctx, r, p, progress)
					}
					p.Reset(run.PartMark{Total: -1})
					progress(0, -1)
					io.WriteString(p, body)
					f := failure(transfer.Network, 200, errors.New("announced another digest"))
					f.Host, f.SHA256, f.Ranged = host(r.URL), sum(body), !r.Plain
					return transfer.Result{}, f
				})
				w.start()
				w.pass(5 * time.Minute)
				w.expect(k, run.AssetStored)
				if len(plain) != c.want || plain[0] || slices.Contains(plain[1:], false) {
					t.Errorf("asked without Range: %v, want %d times, all but the first", plain, c.want)
				}
			})
		})
	}
}

// The first fetch is remembered across a restart.
func TestCase_A10_FirstFetchIsRememberedAcrossARestart(t *testing.T) {
	live(t, func(w *world) {
		k := w.add("run1", "a", "https://cdn/a", 200*hour)
		fetches := 0
		w.s.rule("https://cdn/", func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
			if fetches++; r.Before == sum(gif) {
				return serve(gif, 0)(ctx, r, p, progress)
			}
			f := failure(transfer.Network, 200, errors.New("announced another digest"))
			f.SHA256 = sum(gif)
			return transfer.Result{}, f
		})
		w.start()
		w.pass(10 * time.Millisecond)
		w.stop()
		w.start()
		w.pass(time.Minute)
		w.expect(k, run.AssetStored)
		if fetches != 2 {
			t.Errorf("%d fetches, want 2", fetches)
		}
	})
}
