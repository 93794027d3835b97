// Package clock tells the time: the local one, each host's, and the service
// clock on which waiting is counted.
//
// It guarantees that a host's clock is told only from answers that can be
// trusted, that a step of the local clock does not shift what is known of the
// others, and that the service clock never goes back and stands still during
// outages. What a time means is left to others.
package clock

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The rules by which an answer's Date is believed.
const (
	samples  = 5               // the median of so many last answers is a host's skew
	maxRTT   = 5 * time.Second // a slower answer says too little
	maxSkew  = 24 * time.Hour  // a larger difference is a broken Date
	maxHosts = 256             // remembered at a time; redirects can name any number
)

// Clock is the local clock and what is known of the hosts' clocks. It is safe
// for concurrent use, and its memory is bounded.
type Clock struct {
	epoch time.Time // with its monotonic reading, against which steps show

	mu    sync.Mutex
	hosts map[string]*host
	seq   uint64
}

// host holds the last samples of one host, newest last.
type host struct {
	samples []sample
	used    uint64
}

// sample is one answer's difference from the local wall clock, and how far that
// clock had been stepped by then.
type sample struct{ skew, step time.Duration }

// New gives a clock that knows no host.
func New() *Clock {
	return &Clock{epoch: time.Now(), hosts: map[string]*host{}}
}

// Now is the local wall clock's time in UTC, without a monotonic reading: fit to
// be stored and to be compared with dates (P7.2).
func (c *Clock) Now() time.Time { return time.Now().Round(0).UTC() }

// Observe learns from an answer's Date how far the host's clock is from ours.
// sent and received are the local times around the request. Ignored is an answer
// that came out of a cache (Age), has no Date that can be read, took longer than
// 5 s, or differs by more than a day.
func (c *Clock) Observe(hostname string, sent, received time.Time, h http.Header) {
	rtt := received.Sub(sent)
	if len(h.Values("Age")) > 0 || rtt < 0 || rtt > maxRTT {
		return
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	middle := received.Round(0).Add(rtt/2 - rtt) // sent + rtt/2, also where that halves a nanosecond
	// A Date has lost its fraction: the host's clock was up to a second further.
	skew := ceilSecond(date.Sub(middle))
	if skew.Abs() > maxSkew {
		return
	}
	c.note(hostname, sample{skew, c.step(time.Now())})
}

// ceilSecond rounds up to whole seconds.
func ceilSecond(d time.Duration) time.Duration {
	floor := d.Truncate(time.Second)
	if floor < d {
		floor += time.Second
	}
	return floor
}

// step is how far the local wall clock has run away from the monotonic one since
// the start: it changes when the wall clock is set, and over a suspend.
func (c *Clock) step(now time.Time) time.Duration {
	return now.Round(0).Sub(c.epoch.Round(0)) - now.Sub(c.epoch)
}

func (c *Clock) note(hostname string, s sample) {
	hostname = strings.ToLower(hostname)
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[hostname]
	if h == nil {
		if len(c.hosts) >= maxHosts {
			c.forgetOldest()
		}
		h = &host{}
		c.hosts[hostname] = h
	}
	c.seq++
	h.used = c.seq
	if len(h.samples) == samples {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, s)
}

func (c *Clock) forgetOldest() {
	var oldest string
	used := c.seq + 1
	for name, h := range c.hosts {
		if h.used < used {
			oldest, used = name, h.used
		}
	}
	delete(c.hosts, oldest)
}

// Server is now by the host's clock, in UTC: the local time where that clock is
// not known.
func (c *Clock) Server(hostname string) time.Time {
	skew, _ := c.Skew(hostname)
	return c.Now().Add(skew)
}

// Skew is how far the host's clock is ahead of ours, in whole seconds: the
// median of its last 5 answers since our clock was last set. False: not known.
func (c *Clock) Skew(hostname string) (time.Duration, bool) {
	return c.skew(hostname, c.step(time.Now()))
}

func (c *Clock) skew(hostname string, step time.Duration) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[strings.ToLower(hostname)]
	if h == nil {
		return 0, false
	}
	skews := make([]time.Duration, 0, samples)
	for _, s := range h.samples {
		if (s.step - step).Abs() <= time.Second {
			skews = append(skews, s.skew)
		}
	}
	if len(skews) == 0 {
		return 0, false
	}
	slices.Sort(skews)
	return skews[(len(skews)-1)/2], true
}
