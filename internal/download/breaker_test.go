package download_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer"
)

// broken answers as an asset does that fails for good, after so long.
func broken(f transfer.Failure, took time.Duration) fetchFunc {
	return func(ctx context.Context, r transfer.Request, _ transfer.Part, _ func(done, total int64)) (transfer.Result, error) {
		if f.Phase != transfer.Connecting && r.Sent != nil {
			r.Sent()
		}
		select {
		case <-ctx.Done():
			return transfer.Result{}, &transfer.Failure{Class: transfer.Canceled, Err: context.Cause(ctx)}
		case <-time.After(took):
		}
		g := f
		g.Host, g.Err = host(r.URL), errors.New("it always fails")
		return transfer.Result{}, &g
	}
}

// breaksOff answers, and ends in the midst of the body.
func breaksOff(took time.Duration) fetchFunc {
	return func(_ context.Context, r transfer.Request, _ transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		progress(0, 1000)
		<-time.After(took)
		return transfer.Result{}, &transfer.Failure{Class: transfer.Network, Status: 200, Host: host(r.URL), Err: errors.New("cut")}
	}
}

// trickles answers, and brings next to nothing for so long.
func trickles(d time.Duration) fetchFunc {
	return func(ctx context.Context, r transfer.Request, _ transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
		r.Sent()
		<-time.After(50 * time.Millisecond)
		progress(0, 1<<20)
		r.Throttle.Read(1)
		defer r.Throttle.Read(-1)
		f := &transfer.Failure{Class: transfer.Stall, Status: 200, Host: host(r.URL), Err: errors.New("too slow")}
		select {
		case <-ctx.Done():
			f.Class, f.Err = transfer.Canceled, context.Cause(ctx)
		case <-time.After(d):
		}
		return transfer.Result{}, f
	}
}

// failures are the ways in which an asset may fail for good while others of its host
// are had.
func failures() map[string]fetchFunc {
	const trip = 80 * time.Millisecond
	all := map[string]fetchFunc{
		"reset":            broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Awaiting}, trip),
		"malformed":        broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Header}, trip),
		"no response":      broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Awaiting}, 30*time.Second),
		"half a header":    broken(transfer.Failure{Class: transfer.Network, Phase: transfer.Header}, 30*time.Second),
		"cut":              breaksOff(trip),
		"trickle":          trickles(2 * time.Minute),
		"not media":        broken(transfer.Failure{Class: transfer.NotMedia, Status: 200}, trip),
		"redirects":        broken(transfer.Failure{Class: transfer.RedirectLoop, Status: 302}, trip),
		"no proof":         broken(transfer.Failure{Class: transfer.Stall, Status: 200}, 30*time.Second),
		"503, Retry-After": broken(transfer.Failure{Class: transfer.Throttled, Status: 503, RetryAfter: time.Hour}, trip),
		"429, Retry-After": broken(transfer.Failure{Class: transfer.Throttled, Status: 429, RetryAfter: 50 * time.Second}, trip),
		"500, Retry-After": broken(transfer.Failure{Class: transfer.Server, Status: 500, RetryAfter: time.Hour}, trip),
	}
	for status, class := range map[int]transfer.Class{
		401: transfer.Refused, 403: transfer.Refused, 400: transfer.Server, 404: transfer.Gone, 408: transfer.Server, 410: transfer.Gone,
		409: transfer.Server, 425: transfer.Server, 429: transfer.Throttled, 500: transfer.Server, 502: transfer.Server, 503: transfer.Throttled, 504: transfer.Server,
	} {
		all[fmt.Sprint(status)] = broken(transfer.Failure{Class: class, Status: status}, trip)
	}
	return all
}

// mix is assets that fail for good and others that do not, on some hosts.
type mix struct {
	hosts, workers int
	bad            []badAsset
	good           []goodAsset
	warm           bool // each host has answered before
}

type badAsset struct {
	host int
	how  string
	life time.Duration
}

type goodAsset struct {
	host int
	came time.Duration // after the bad ones
	life time.Duration
}

func drawMix(t *rapid.T) (m mix) {
	names := make([]string, 0, 32)
	for name := range failures() {
		names = append(names, name)
	}
	slices.Sort(names)
	m.hosts = rapid.IntRange(1, 5).Draw(t, "hosts")
	m.workers = rapid.SampledFrom([]int{8, 16, 32}).Draw(t, "workers")
	m.warm = rapid.Bool().Draw(t, "warm")
	lives := []time.Duration{10 * time.Minute}
	if rapid.Bool().Draw(t, "different expiries") {
		lives = []time.Duration{4 * time.Minute, 10 * time.Minute, time.Hour, 12 * time.Hour}
	}
	kinds := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 6, rapid.ID[string]).Draw(t, "failures")
	for range rapid.SampledFrom([]int{1, 2, 5, 20, 50}).Draw(t, "bad") {
		m.bad = append(m.bad, badAsset{
			rapid.IntRange(0, m.hosts-1).Draw(t, "host"), rapid.SampledFrom(kinds).Draw(t, "how"), rapid.SampledFrom(lives).Draw(t, "life"),
		})
	}
	wave := rapid.SampledFrom([]time.Duration{0, 2 * time.Second, 70 * time.Second}).Draw(t, "later")
	for i := range rapid.SampledFrom([]int{1, 10, 40, 500}).Draw(t, "good") {
		m.good = append(m.good, goodAsset{i % m.hosts, wave * time.Duration(i%3) / 2, lives[i%len(lives)]})
	}
	return m
}

// fetched tells of every good asset when it was first asked for after it came, and
// whether it was stored before its URL's expiry.
func (m mix) run(t *testing.T) (complaints []string) {
	live(t, func(w *world) {
		w.cfg.Workers = m.workers
		how := failures()
		name := func(h int) string { return fmt.Sprintf("https://cdn%d/", h) }
		for h := range m.hosts {
			w.clk.skew[fmt.Sprintf("cdn%d", h)] = 0
			w.s.rule(name(h), func(ctx context.Context, r transfer.Request, p transfer.Part, progress func(done, total int64)) (transfer.Result, error) {
				r.Sent()
				time.Sleep(50 * time.Millisecond)
				return serve("good", 50*time.Millisecond)(ctx, r, p, progress)
			})
			if m.warm {
				w.add("warm", fmt.Sprint("w", h), name(h)+"warm", time.Hour)
			}
		}
		w.start()
		w.pass(time.Second)
		for i, b := range m.bad {
			url := fmt.Sprintf("%sbad%02d/", name(b.host), i)
			w.s.rule(url, how[b.how])
			w.add(run.ID(fmt.Sprintf("bad%02d", i)), "bad", url, b.life)
		}
		came, dies := map[run.Key]time.Duration{}, map[run.Key]time.Duration{}
		for _, wave := range []time.Duration{0, time.Second, 2 * time.Second, 35 * time.Second, 70 * time.Second} {
			w.until(time.Second + wave)
			for i, g := range m.good {
				if g.came == wave {
					k := w.add(run.ID(fmt.Sprintf("good%03d", i)), "good", fmt.Sprintf("%sgood%03d", name(g.host), i), g.life)
					came[k], dies[k] = time.Since(w.begin), time.Since(w.begin)+g.life
				}
			}
		}
		w.until(3 * time.Minute)
		first := map[run.Key]time.Duration{}
		for _, r := range w.s.of("") {
			if _, ok := first[r.key]; !ok {
				first[r.key] = r.at
			}
		}
		for k, at := range came {
			asked, ok := first[k]
			if !ok || asked-at > time.Minute {
				complaints = append(complaints, fmt.Sprintf("%s came at %v and was asked for at %v, %v", k, at, asked, ok))
			}
			if state := w.q.state(k); state != run.AssetStored {
				complaints = append(complaints, fmt.Sprintf("%s is %s, its URL expires at %v", k, state, dies[k]))
			}
		}
	})
	return complaints
}

// Any mix of up to 50 assets that fail for good and 500 that do not, on 1 to 5 hosts:
// each good one is asked for within a minute, and stored before its URL expires.
func TestCase_A1_AssetsThatFailForGoodHoldUpNoOthers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawMix(rt)
		if bad := m.run(t); len(bad) > 0 {
			rt.Fatalf("%d complaints, the first: %s", len(bad), bad[0])
		}
	})
}

// The host opens at each good asset and closes at the bad ones after it: those for which
// no request was made yet do not get another 40 seconds each time.
func TestCase_A1_AHostThatOpensAndClosesHasAllAssetsAskedForWithinAMinute(t *testing.T) {
	lives := []time.Duration{4 * time.Minute, 10 * time.Minute, time.Hour, 12 * time.Hour}
	m := mix{hosts: 1, workers: 8}
	for i := range 50 {
		m.bad = append(m.bad, badAsset{0, []string{"401", "401", "503"}[i%3], lives[i%4]})
	}
	for i := range 10 {
		m.good = append(m.good, goodAsset{0, time.Second * time.Duration(i%3), lives[i%4]})
	}
	for _, complaint := range m.run(t) {
		t.Error(complaint)
	}
}

// The good assets are handed in two seconds after those that fail for good; all URLs
// expire in the same second.
func TestCase_A1_GoodAssetsOfTheSameHostAreStoredWithinSeconds(t *testing.T) {
	for name, how := range failures() {
		for _, bad := range []int{2, 5} {
			t.Run(fmt.Sprintf("%s, %d", name, bad), func(t *testing.T) {
				live(t, func(w *world) {
					w.cfg.Workers = 16
					w.clk.skew["cdn"] = 0
					w.s.rule("https://cdn/bad", how)
					for i := range bad {
						w.add(run.ID(fmt.Sprint("bad", i)), "a", fmt.Sprint("https://cdn/bad", i), 10*time.Minute)
					}
					w.start()
					w.pass(2 * time.Second)
					var good []run.Key
					for i := range 40 {
						good = append(good, w.add(run.ID(fmt.Sprintf("good%02d", i)), "a", fmt.Sprint("https://cdn/good", i), 10*time.Minute-2*time.Second))
					}
					w.pass(12 * time.Second)
					for _, k := range good {
						w.expect(k, run.AssetStored)
					}
					before := len(w.told(run.HostSlowed))
					for i := range 10 { // others are answered all the time
						w.add(run.ID(fmt.Sprint("more", i)), "a", fmt.Sprint("https://cdn/good", 100+i), time.Hour)
						w.pass(20 * time.Second)
						w.expect(key(run.ID(fmt.Sprint("more", i)), "a"), run.AssetStored)
					}
					if again := len(w.told(run.HostSlowed)) - before; again > bad {
						t.Errorf("the host was closed %d times by what had failed before", again)
					}
				})
			})
		}
	}
}

func TestCase_A2_RetryAfterDelaysItsAssetInFullAndItsHostByLessThanAMinute(t *testing.T) {
	for _, c := range []struct {
		class  transfer.Class
		status int
		after  time.Duration
	}{
		{transfer.Throttled, 503, time.Hour},
		{transfer.Throttled, 429, time.Hour},
		{transfer.Throttled, 503, 2 * time.Minute},
		{transfer.Refused, 403, time.Hour},
		{transfer.Refused, 401, 6 * time.Hour},
		{transfer.Server, 500, time.Hour},
		{transfer.Server, 400, time.Hour},
		{transfer.Gone, 404, time.Hour},
		{transfer.Server, 408, time.Hour},
	} {
		for _, bad := range []int{1, 5} {
			t.Run(fmt.Sprint(c.status, " ", c.after, " ", bad), func(t *testing.T) {
				live(t, func(w *world) {
					w.s.rule("https://cdn/bad", broken(transfer.Failure{Class: c.class, Status: c.status, RetryAfter: c.after}, 50*time.Millisecond))
					w.clk.skew["cdn"] = 0
					for i := range bad {
						w.add(run.ID(fmt.Sprint("bad", i)), "a", fmt.Sprint("https://cdn/bad", i), 24*hour)
					}
					w.start()
					w.pass(time.Second)
					good := w.addMany("good", "a", "https://cdn/good", 10, 24*hour)
					w.pass(time.Minute)
					for _, k := range good {
						w.expect(k, run.AssetStored)
					}
					w.pass(c.after)
					for i := range bad {
						at := w.s.times(fmt.Sprint("https://cdn/bad", i))
						if len(at) < 1 || len(at) > 2 || len(at) == 2 && at[1]-at[0] < c.after {
							t.Errorf("asked for at %v", at)
						}
					}
				})
			})
		}
	}
}
