package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// spread is what several rounds gave.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf sums up at least one value; of an even number the median is the mean
// of the middle two.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

func (s spread) extent() string {
	if s.Min == s.Max {
		return ""
	}
	return number(s.Min) + "–" + number(s.Max)
}

// ratios divides round by round.
func ratios(ours, theirs []float64) []float64 {
	quotients := make([]float64, len(ours))
	for i := range ours {
		quotients[i] = ours[i] / theirs[i]
	}
	return quotients
}

// goal is a bound of the design. The zero value is none: the row is for comparison.
type goal struct {
	Bound   float64 `json:"bound"`
	AtLeast bool    `json:"at_least,omitempty"`
	Unit    string  `json:"unit,omitempty"`
	worst   bool    // judged by the worst round, not by the median
}

func atMost(bound float64, unit string) goal  { return goal{Bound: bound, Unit: unit} }
func atLeast(bound float64, unit string) goal { return goal{Bound: bound, Unit: unit, AtLeast: true} }

// always lets the goal be judged by the worst round.
func (g goal) always() goal {
	g.worst = true
	return g
}

func (g goal) String() string {
	sign := "≤"
	if g.AtLeast {
		sign = "≥"
	}
	return sign + " " + number(g.Bound) + " " + g.Unit
}

// judge holds what was measured against the goal.
func (g goal) judge(s spread) string {
	value := s.Median
	switch {
	case g.worst && g.AtLeast:
		value = s.Min
	case g.worst:
		value = s.Max
	}
	if g.AtLeast && value >= g.Bound || !g.AtLeast && value <= g.Bound {
		return met
	}
	return missed
}

// number writes whole numbers as they are and others with three digits, or all
// before the point, in groups of three. It takes what is not negative.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) && v < 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
