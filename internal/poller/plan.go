package poller

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// What a plan is made by.
const (
	frugal     = 12.0 // polls a run of an app may take on average (design 6)
	beyond     = 4.0  // or so many more than MaxInterval asks for
	firstPrice = 0.1  // seconds of lateness that a poll has to save
	lastPrice  = 100.0
	priceStep  = 4.0 // found within its fourth root

	halfLife  = 16.0        // samples after which one counts half
	doubt     = 0.2         // of a sample, for an end at any other time
	firstBlur = 0.2         // how far one sample is blurred, in shares of it; of n each, the nth part
	leastBlur = time.Second // nobody's clock is better
	finest    = 10          // cells of age to MinInterval
	fineness  = 200         // or cells to an age, where these are longer
)

// plan says when to ask the runs of an app, of which it is known how long the
// last ones took. It makes expected lateness and the price of the expected polls
// together the least, by dynamic programming from the last age to the first: it
// asks often where many of the runs that are left end, and as seldom as it may
// where none does. The price begins low and rises until a run is asked no more
// than frugal times on average: an app whose runs take always as long costs a few
// polls, and one whose runs differ gets those it may have where they save most.
// A plan is not changed once it is made.
type plan struct {
	ages  []float64 // seconds
	next  []float64 // the age to ask at again, from the age in the same place on
	polls float64   // expected for a run, its first one with it
}

// makePlan makes a plan from at least one sample, the newest last.
func makePlan(samples []run.Sample, c Config) *plan {
	low, high := c.bounds()
	e := endsOf(samples, low/finest, high)
	p := &plan{ages: e.ages}
	enough := max(frugal, 1+e.mean()/high.Seconds()+beyond)
	place := func(price float64) bool {
		p.next, p.polls = e.place(low.Seconds(), high.Seconds(), price)
		return p.polls <= enough
	}
	price := firstPrice
	if place(price) {
		return p
	}
	for price *= priceStep; price < lastPrice && !place(price); price *= priceStep {
	}
	for step := math.Sqrt(priceStep); step > 1.1; step = math.Sqrt(step) {
		if place(price / step) {
			price /= step
		}
	}
	place(price)
	return p
}

// gap is after how long to ask a run of this age again, at least low; false: it
// is older than the plan reaches.
func (p *plan) gap(age, low time.Duration) (time.Duration, bool) {
	at := max(age, 0).Seconds()
	i := sort.SearchFloat64s(p.ages, at)
	if i == len(p.ages) {
		return 0, false
	}
	if p.ages[i] > at {
		i--
	}
	return max(low, time.Duration((p.next[i]-at)*float64(time.Second))), true
}

// ends is how likely a run ends when: in cells of age, which grow with it.
type ends struct {
	ages []float64 // where the cells begin, in seconds; the last one is where they end
	mass []float64 // in each cell, of 1 in all; what is missing ends later
}

// endsOf blurs each sample by how far its neighbours are away: ten at one age are
// a sharp hump, ten far apart a broad one, two humps are two. The cells go on for
// beyond after the last one.
func endsOf(took []run.Sample, cell, beyond time.Duration) ends {
	type sample struct{ at, weight float64 }
	n := len(took)
	whole := doubt
	samples := make([]sample, n)
	for i, t := range took {
		s := sample{max(t.Took, 0).Seconds(), math.Exp2(-float64(n-1-i) / halfLife)}
		whole += s.weight
		samples[i] = s
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.at, b.at) })
	near := int(math.Ceil(math.Sqrt(float64(n)))) / 2
	blur := make([]float64, n)
	last := 0.0
	for i, s := range samples {
		blur[i] = max(leastBlur.Seconds(), s.at*firstBlur/float64(n),
			samples[min(i+near, n-1)].at-s.at, s.at-samples[max(i-near, 0)].at)
		last = max(last, s.at+blur[i])
	}
	e := newEnds(last+beyond.Seconds(), max(cell, time.Millisecond).Seconds())
	for i, s := range samples {
		e.add(s.weight/whole, func(age float64) float64 { return hump((age - s.at) / blur[i]) })
	}
	usual := samples[n/2].at + 1
	e.add(doubt/whole, func(age float64) float64 { return age / (usual + age) })
	return e
}

func newEnds(last, cell float64) ends {
	e := ends{ages: []float64{0}}
	for age := 0.0; age < last; {
		age += max(cell, age/fineness)
		e.ages = append(e.ages, age)
	}
	e.mass = make([]float64, len(e.ages)-1)
	return e
}

// add spreads a weight over the cells by the share of it that lies below an age;
// what would lie below 0 counts at 0.
func (e ends) add(weight float64, below func(age float64) float64) {
	before := 0.0
	for i := range e.mass {
		upTo := below(e.ages[i+1])
		e.mass[i] += weight * (upTo - before)
		before = upTo
	}
}

// hump is the share of a triangle from -1 to 1 that lies below x.
func hump(x float64) float64 {
	x = min(max(x, -1), 1)
	if x < 0 {
		return (1 + x) * (1 + x) / 2
	}
	return 1 - (1-x)*(1-x)/2
}

// mean is the mean age at the end, in seconds; what ends later counts as last.
func (e ends) mean() (seconds float64) {
	left := 1.0
	for i, m := range e.mass {
		seconds += m * e.middle(i)
		left -= m
	}
	return seconds + left*e.ages[len(e.ages)-1]
}

func (e ends) middle(i int) float64 { return (e.ages[i] + e.ages[i+1]) / 2 }

// place finds for each age the next one to ask at, low to high seconds later,
// such that expected lateness in seconds, and the price for each expected poll,
// come to the least.
func (e ends) place(low, high, price float64) (next []float64, polls float64) {
	n := len(e.mass)
	ended, moment := make([]float64, n+1), make([]float64, n+1) // sums of the mass, and of it times its age
	for i, m := range e.mass {
		ended[i+1] = ended[i] + m
		moment[i+1] = moment[i] + m*e.middle(i)
	}
	cost, asked := make([]float64, n+1), make([]float64, n+1) // from each age on, of the runs left then
	next = make([]float64, n+1)
	next[n] = e.ages[n] + high
	from := n // the first age that is low later
	for i := n - 1; i >= 0; i-- {
		for from > i+1 && e.ages[from-1] >= e.ages[i]+low {
			from--
		}
		best, to := math.Inf(1), n
		for j := from; j <= n && e.ages[j] <= e.ages[i]+high; j++ {
			late := e.ages[j]*(ended[j]-ended[i]) - (moment[j] - moment[i])
			if sum := late + cost[j]; sum < best {
				best, to = sum, j
			}
		}
		if math.IsInf(best, 1) { // the cells are longer than high
			best, to = cost[from], from
		}
		left := 1 - ended[i]
		cost[i], asked[i] = best+price*left, asked[to]+left
		next[i] = min(max(e.ages[to], e.ages[i]+low), e.ages[i]+high)
	}
	return next, 1 + asked[0]
}
