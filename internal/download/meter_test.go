package download

import (
	"math"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// feed samples every second a line of so many bytes/s with n connections.
func (m *meter) feed(from time.Duration, seconds int, rate int64, n int) (now time.Duration) {
	now = from
	for range seconds + 1 {
		m.sample(now, m.moved+int64(float64(rate)*(now-m.begun).Seconds()), n)
		now += time.Second
	}
	return now
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.05*want {
		t.Errorf("%s: %.0f, want %.0f", what, got, want)
	}
}

func TestMeterTellsTheLinksLimitFromAConnections(t *testing.T) {
	m := &meter{}
	now := m.feed(time.Second, 3, 1000, 1)
	now = m.feed(now, 3, 2000, 2)
	now = m.feed(now, 3, 8000, 8)
	near(t, "the link", m.most(now), 8000)
	near(t, "a connection", m.each(now, m.most(now)), 1000)
	if got := m.limit(now, 8000); got != 0 {
		t.Errorf("a limit of %.0f where the link is full", got)
	}
	near(t, "a host that is slower than the link", func() float64 {
		h := &meter{}
		now := h.feed(time.Second, 3, 1000, 2)
		return h.limit(h.feed(now, 3, 1000, 8), 8000)
	}(), 1000)
}

func TestMeterForgetsWhatIsNotSeenAgainWhileItMeasures(t *testing.T) {
	m := &meter{}
	now := m.feed(time.Second, 5, 9000, 16)
	now = m.feed(now, 10, 3000, 2)
	near(t, "a moment later", m.most(now), 9000)
	near(t, "and so a connection brings", m.each(now, 9000), 1500)
	now = m.feed(now, 30, 3000, 2)
	near(t, "half a minute of measuring later", m.most(now), 3000)
	near(t, "after a rest", m.most(now+9*time.Minute), 3000)
	if got := m.most(now + 11*time.Minute); got != 0 {
		t.Errorf("after a long rest it still says %.0f", got)
	}
}

func TestMeterTakesNoSampleWhereConnectionsCameOrWent(t *testing.T) {
	m := &meter{}
	for i, n := range []int{0, 4, 0, 1, 8, 0} {
		m.sample(time.Duration(i+1)*time.Second, int64(i)*1_000_000, n)
	}
	if got := m.most(7 * time.Second); got != 0 {
		t.Errorf("it says %.0f", got)
	}
	m.sample(7*time.Second, 6_000_000, 4)
	m.sample(7*time.Second+100*time.Millisecond, 60_000_000, 4) // too short to say anything
	if got := m.most(8 * time.Second); got != 0 {
		t.Errorf("after a tenth of a second it says %.0f", got)
	}
}

func TestScalesGuessByAppThenByKind(t *testing.T) {
	s := scales{}
	if bytes, spread := s.guess("app", run.Videos); bytes != 32<<20 || spread != 32<<20 {
		t.Errorf("before any was seen: %d, %d", bytes, spread)
	}
	for i := range 50 {
		s.see("app", run.Images, 1000+int64(i%2)*200)
		s.see("other", run.Images, 9000)
	}
	bytes, spread := s.guess("app", run.Images)
	near(t, "of the app", float64(bytes), 1100)
	if spread < 80 || spread > 200 {
		t.Errorf("spread %d", spread)
	}
	if bytes, spread = s.guess("third", run.Images); bytes < 4000 || bytes > 6500 || spread < 3000 {
		t.Errorf("of an app not seen: %d, %d", bytes, spread)
	}
	for range mostSorts {
		s.see("", run.Audios, 1)
		s.see(string(rune(len(s)+1000)), run.Audios, 1)
	}
	if len(s) > mostSorts {
		t.Errorf("%d sorts are kept", len(s))
	}
}

func TestCutsOutliveManyHosts(t *testing.T) {
	p := New(Config{}, Deps{})
	p.scarce.cuts["cdn"] = time.Now()
	p.scarce.host("busy").conns = 1
	for i := range 3 * mostHostFacts {
		p.scarce.host(string(rune(i + 1000)))
	}
	if len(p.scarce.hosts) > mostHostFacts || p.scarce.hosts["busy"] == nil || !p.cutting("cdn") || p.cutting("busy") {
		t.Errorf("%d hosts, cuts %v", len(p.scarce.hosts), p.scarce.cuts)
	}
	p.scarce.cuts["cdn"] = time.Now().Add(-8 * 24 * time.Hour)
	if p.cutting("cdn") {
		t.Error("what was seen long ago still counts")
	}
}
