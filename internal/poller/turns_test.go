package poller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/answers"
	"github.com/assetd/assetd/internal/queue/memkv"
	"github.com/assetd/assetd/internal/run"
)

// crowd is a poller over a real queue, at the budget of a key, which knows the runs
// whose names begin with "good" alone.
type crowd struct {
	*testing.T
	q    *queue.Queue
	api  *service
	p    *Poller
	stop func()
}

func inCrowd(t *testing.T, f func(c *crowd)) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{T: t}
		var err error
		if c.q, err = queue.New(memkv.New(), answers.New(t.TempDir()), queue.Options{}); err != nil {
			t.Fatal(err)
		}
		c.api = &service{
			start: time.Now(), key: "key", asked: map[run.ID]int{}, flying: map[run.ID]int{},
			wait: rate.NewLimiter(5-50/120.0, 50).Wait, // as magnific's, by default
			reply: func(id run.ID, _ int) reply {
				if strings.HasPrefix(string(id), "good") {
					return status(run.Running)
				}
				return notFound
			},
		}
		c.begin()
		f(c)
		c.stop()
		if err := c.q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (c *crowd) begin() {
	c.p = New(config, Deps{
		API: c.api, Queue: c.q, Clock: clock.New(), Service: clock.NewService(0), Salt: "salt-",
		Changed: func(run.Change) {}, Tell: func(run.Event) {}, Broken: func(error) bool { return false },
	})
	w := &world{T: c.T, Poller: c.p}
	w.begin()
	c.stop = func() {
		if err := w.stop(); err != nil {
			c.Error(err)
		}
	}
}

// pass lets time go by.
func (c *crowd) pass(d time.Duration) { time.Sleep(d) }

func (c *crowd) submit(name string, n int) {
	c.Helper()
	handIns := make([]run.HandIn, n)
	for i := range handIns {
		handIns[i].ID = run.ID(fmt.Sprintf("%s-%05d", name, i))
	}
	if _, err := c.q.Add(c.Context(), handIns); err != nil {
		c.Fatal(err)
	}
	c.p.Wake()
}

// first is how long after since a run was asked for.
func (c *crowd) first(id run.ID, since time.Duration) time.Duration {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	i := slices.IndexFunc(c.api.calls, func(k call) bool { return k.id == id && k.at >= since })
	if i < 0 {
		return time.Hour
	}
	return c.api.calls[i].at - since
}

func (c *crowd) asked(prefix string, since time.Duration) (n int) {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	for _, k := range c.api.calls {
		if k.at >= since && strings.HasPrefix(string(k.id), prefix) {
			n++
		}
	}
	return n
}

func TestCase_G6_AGoodRunIsPolledSoonWhateverWasSubmittedBefore(t *testing.T) {
	for name, before := range map[string]func(c *crowd){
		"never asked":            func(c *crowd) { c.submit("none", 10_000) },
		"good, never asked":      func(c *crowd) { c.submit("goodbig", 3000) },
		"many submissions":       func(c *crowd) { many(c, 200, 5) },
		"all 404, asked again":   func(c *crowd) { c.submit("none", 200); c.pass(time.Minute) },
		"good ones, being asked": func(c *crowd) { c.submit("goodbig", 200); c.pass(time.Minute) },
		"both, and a restart": func(c *crowd) {
			c.submit("none", 1000)
			c.submit("goodbig", 1000)
			c.pass(20 * time.Second)
			c.stop()
			c.begin()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCrowd(t, func(c *crowd) {
				before(c)
				time.Sleep(20 * time.Second)
				at := time.Since(c.api.start)
				c.submit("good", 3)
				time.Sleep(10 * time.Second)
				for i := range 3 {
					if late := c.first(run.ID(fmt.Sprintf("good-%05d", i)), at); late > 5*time.Second {
						t.Errorf("run %d was asked for after %v", i, late)
					}
				}
			})
		})
	}
}

func many(c *crowd, files, each int) {
	for i := range files {
		c.submit(fmt.Sprintf("none%d", i), each)
	}
}

// A run that was only just started is 404 for a moment: it is not lost among those
// that will always be.
func TestCase_G6_AFirst404IsNotTheEndOfTheLine(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		c.submit("none", 200)
		time.Sleep(time.Minute)
		at := time.Since(c.api.start)
		c.api.answerWith(func(id run.ID, n int) reply {
			if id == "good-00000" && n > 0 {
				return status(run.Running)
			}
			return notFound
		})
		c.submit("good", 1)
		time.Sleep(2 * time.Minute)
		if n := c.asked("good-", at); n < 2 {
			t.Errorf("asked %d times in two minutes", n)
		}
	})
}

func TestCase_G6_TwoLargeSubmissionsShareTheBudget(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		c.submit("gooda", 3000)
		c.submit("goodb", 3000)
		time.Sleep(time.Minute)
		a, b := c.asked("gooda", 0), c.asked("goodb", 0)
		if a < 80 || b < 80 || a+b < 250 {
			t.Errorf("%d and %d", a, b)
		}
	})
}

// Those that are only answered with 404 have few turns while others are due, and all
// that is left otherwise.
func TestCase_G6_RunsThatOnlyAnswered404ComeLast(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		c.submit("none", 200)
		time.Sleep(time.Minute) // all were asked once
		c.submit("goodbig", 300)
		at := time.Since(c.api.start)
		time.Sleep(time.Minute)
		good, none := c.asked("good", at), c.asked("none", at)
		if good < 10*none || none == 0 {
			t.Errorf("%d polls of runs that are known, %d of those that are not", good, none)
		}
	})
}
