package clock

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// answer is the header of an answer sent at the local time plus skew.
func answer(skew time.Duration) http.Header {
	return http.Header{"Date": {time.Now().Add(skew).UTC().Format(http.TimeFormat)}}
}

func observe(c *Clock, host string, skew time.Duration) {
	now := time.Now()
	c.Observe(host, now, now, answer(skew))
}

func TestAHostsClockIsKnownFromItsDate(t *testing.T) {
	for _, skew := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute, 23 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := New()
			observe(c, "API.example", skew)
			if got, ok := c.Skew("api.example"); !ok || got != skew {
				t.Errorf("skew %v %v, want %v", got, ok, skew)
			}
			if got, want := c.Server("api.example"), time.Now().Add(skew); !got.Equal(want) {
				t.Errorf("server %v, want %v", got, want)
			}
			if got := c.Server("other.example"); !got.Equal(time.Now()) {
				t.Errorf("unknown host: %v, want the local time", got)
			}
		})
	}
}

func TestADateThatLostItsFractionIsNoSkew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New()
		sent := time.Unix(1772064000, rapid.Int64Range(0, 999_999_999).Draw(t, "fraction"))
		rtt := time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "rtt"))
		skew := time.Duration(rapid.Int64Range(-3600, 3600).Draw(t, "skew")) * time.Second
		date := sent.Add(rtt / 2).Add(skew).UTC().Format(http.TimeFormat)
		c.Observe("h", sent, sent.Add(rtt), http.Header{"Date": {date}})
		if got, ok := c.Skew("h"); !ok || got != skew {
			t.Fatalf("skew %v %v, want %v", got, ok, skew)
		}
	})
}

func TestAnswersThatCannotBeTrustedAreIgnored(t *testing.T) {
	now := time.Now()
	good := func() http.Header { return answer(5 * time.Minute) }
	for name, try := range map[string]func(c *Clock){
		"from a cache": func(c *Clock) { h := good(); h.Set("Age", "600"); c.Observe("h", now, now, h) },
		"no Date":      func(c *Clock) { c.Observe("h", now, now, http.Header{}) },
		"no header":    func(c *Clock) { c.Observe("h", now, now, nil) },
		"garbage":      func(c *Clock) { c.Observe("h", now, now, http.Header{"Date": {"yesterday"}}) },
		"too slow":     func(c *Clock) { c.Observe("h", now.Add(-5001*time.Millisecond), now, good()) },
		"backwards":    func(c *Clock) { c.Observe("h", now.Add(time.Second), now, good()) },
		"years away":   func(c *Clock) { c.Observe("h", now, now, answer(-47*365*24*time.Hour)) },
		"over a day":   func(c *Clock) { c.Observe("h", now, now, answer(25*time.Hour)) },
	} {
		c := New()
		try(c)
		if got, ok := c.Skew("h"); ok {
			t.Errorf("%s: skew %v, want unknown", name, got)
		}
	}
}

func TestTheMedianOfTheLastFiveIsTheSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		for _, minutes := range []int{60, 60, 60, 1, 2, 3, -60, 60} { // the last five: 1 2 3 -60 60
			observe(c, "h", time.Duration(minutes)*time.Minute)
		}
		if got, _ := c.Skew("h"); got != 2*time.Minute {
			t.Errorf("skew %v, want 2m", got)
		}
	})
}

func TestAStepOfTheLocalClockMakesOldSamplesUnknown(t *testing.T) {
	c := New()
	for range samples {
		c.note("h", sample{skew: time.Hour, step: 0})
	}
	if got, ok := c.skew("h", 500*time.Millisecond); !ok || got != time.Hour {
		t.Errorf("unstepped: %v %v", got, ok)
	}
	if got, ok := c.skew("h", time.Hour); ok {
		t.Errorf("after the clock was set right: %v, want unknown", got)
	}
	c.note("h", sample{skew: 0, step: time.Hour})
	if got, ok := c.skew("h", time.Hour); !ok || got != 0 {
		t.Errorf("after a new answer: %v %v, want 0", got, ok)
	}
}

func TestOnlySoManyHostsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		for i := range 10 * maxHosts {
			observe(c, "api", time.Minute)
			observe(c, fmt.Sprint("h", i), time.Hour)
		}
		if len(c.hosts) > maxHosts {
			t.Errorf("%d hosts remembered", len(c.hosts))
		}
		if got, ok := c.Skew("api"); !ok || got != time.Minute {
			t.Errorf("the host in use was forgotten: %v %v", got, ok)
		}
	})
}

func TestNowHasNoMonotonicReading(t *testing.T) {
	now := New().Now()
	if now != now.Round(0) || now.Location() != time.UTC {
		t.Errorf("%v has a monotonic reading or is not UTC", now)
	}
}
