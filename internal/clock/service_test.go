package clock

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestServiceClockStandsStillWhileAnyReasonHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(time.Hour)
		time.Sleep(time.Minute)
		s.Pause("api")
		time.Sleep(time.Hour)
		s.Pause("volume")
		s.Pause("volume")
		s.Resume("api")
		s.Resume("never there")
		time.Sleep(time.Hour)
		if got := s.Paused(); !slices.Equal(got, []string{"volume"}) {
			t.Errorf("paused for %v", got)
		}
		s.Resume("volume")
		time.Sleep(time.Second)
		if got, want := s.Now(), time.Hour+time.Minute+time.Second; got != want {
			t.Errorf("reads %v, want %v", got, want)
		}
		if got := s.Paused(); len(got) != 0 {
			t.Errorf("still paused for %v", got)
		}
	})
}

func TestServiceClockSumsExactlyTheTimeWithoutReasons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type step struct {
			after  time.Duration
			reason string
			pause  bool
		}
		steps := rapid.SliceOf(rapid.Custom(func(t *rapid.T) step {
			return step{
				time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms")) * time.Millisecond,
				rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "reason"),
				rapid.Bool().Draw(t, "pause"),
			}
		})).Draw(t, "steps")
		s := NewService(0)
		now, held, want := s.since, map[string]bool{}, time.Duration(0)
		for _, st := range steps {
			if now = now.Add(st.after); len(held) == 0 {
				want += st.after
			}
			s.read(now)
			if st.pause {
				held[st.reason], s.reasons[st.reason] = true, struct{}{}
			} else {
				delete(held, st.reason)
				delete(s.reasons, st.reason)
			}
		}
		if got := s.read(now); got != want {
			t.Fatalf("reads %v, want %v", got, want)
		}
	})
}

func TestServiceClockNeverGoesBack(t *testing.T) {
	s := NewService(-time.Hour)
	before := s.read(s.since.Add(time.Hour))
	if after := s.read(s.since.Add(-time.Minute)); before != time.Hour || after < before {
		t.Errorf("went from %v to %v", before, after)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var last time.Duration
			for i := range 1000 {
				if i%3 == 0 {
					s.Pause("x")
				} else {
					s.Resume("x")
				}
				now := s.Now()
				if now < last {
					t.Errorf("went from %v to %v", last, now)
				}
				last = now
			}
		})
	}
	wg.Wait()
}
