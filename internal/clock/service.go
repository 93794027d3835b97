package clock

import (
	"slices"
	"sync"
	"time"
)

// Service is the service clock: the sum of time in which the daemon ran and
// everything it needs could be used. Give-up and loss are counted on it, so that
// no outage is ever counted against a run or an asset. It never goes back, and
// it is safe for concurrent use.
type Service struct {
	mu      sync.Mutex
	sum     time.Duration // up to since
	since   time.Time     // with its monotonic reading: a set wall clock and a suspend count for nothing
	reasons map[string]struct{}
}

// NewService gives a service clock that runs on from at, the value last saved.
func NewService(at time.Duration) *Service {
	return &Service{sum: max(at, 0), since: time.Now(), reasons: map[string]struct{}{}}
}

// Now is the clock's reading. Only differences between readings of one queue
// mean anything.
func (s *Service) Now() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(time.Now())
}

// read brings the sum up to now.
func (s *Service) read(now time.Time) time.Duration {
	if len(s.reasons) == 0 {
		s.sum += max(now.Sub(s.since), 0)
	}
	s.since = now
	return s.sum
}

// Pause stops the clock for the reason given, until Resume is called with it.
// The clock runs while there is no reason; a reason counts once.
func (s *Service) Pause(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read(time.Now())
	s.reasons[reason] = struct{}{}
}

// Resume takes the reason back. One that is not there changes nothing.
func (s *Service) Resume(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read(time.Now())
	delete(s.reasons, reason)
}

// Paused lists the reasons for which the clock stands still, sorted; none: it
// runs.
func (s *Service) Paused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	reasons := make([]string, 0, len(s.reasons))
	for r := range s.reasons {
		reasons = append(reasons, r)
	}
	slices.Sort(reasons)
	return reasons
}
