package backoff

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestDelay_DoublesFromTheFirstToTheLimit(t *testing.T) {
	const second, minute = time.Second, time.Minute
	for _, c := range []struct {
		n                  int
		first, limit, want time.Duration
	}{
		{0, second, minute, second},
		{-3, second, minute, second},
		{1, second, minute, second},
		{2, second, minute, 2 * second},
		{6, second, minute, 32 * second},
		{7, second, minute, minute},
		{8, second, minute, minute},
		{1_000_000, second, minute, minute},
		{math.MaxInt, second, minute, minute},
		{1, minute, second, second},
		{9, second, 5 * minute, 256 * second},
		{10, second, 5 * minute, 5 * minute},
		{4, 5 * second, minute, 40 * second},
		{5, 5 * second, minute, minute},
		{math.MaxInt, 1, math.MaxInt64, math.MaxInt64},
	} {
		if got := Delay(c.n, c.first, c.limit); got != c.want {
			t.Errorf("failure %d, %v to %v: %v, want %v", c.n, c.first, c.limit, got, c.want)
		}
	}
}

func TestJitter_FullAndHalf(t *testing.T) {
	for _, c := range []struct {
		random     float64
		full, half time.Duration
	}{
		{-1, 0, 5 * time.Second},
		{0, 0, 5 * time.Second},
		{0.25, 2500 * time.Millisecond, 6250 * time.Millisecond},
		{0.5, 5 * time.Second, 7500 * time.Millisecond},
		{1, 10 * time.Second, 10 * time.Second},
		{2, 10 * time.Second, 10 * time.Second},
	} {
		if got := FullJitter(10*time.Second, c.random); got != c.full {
			t.Errorf("full, %v: %v, want %v", c.random, got, c.full)
		}
		if got := HalfJitter(10*time.Second, c.random); got != c.half {
			t.Errorf("half, %v: %v, want %v", c.random, got, c.half)
		}
	}
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestRetryAfter_ReadsBothFormsAndIsBounded(t *testing.T) { // N12
	const quarter, year = 15 * time.Minute, 366 * 24 * time.Hour
	for _, c := range []struct {
		value       string
		limit, want time.Duration
	}{
		{"", quarter, 0},
		{"0", quarter, 0},
		{" 7 ", quarter, 7 * time.Second},
		{"900", quarter, quarter},
		{"901", quarter, quarter},
		{"901", time.Hour, 901 * time.Second},
		{"315360000", quarter, quarter},
		{"315360000", year, year},
		{"99999999999999999999999", quarter, quarter},
		{strings.Repeat("9", 30), year, year},
		{"-5", quarter, 0},
		{"+3", quarter, 0},
		{"1.5", quarter, 0},
		{"1e3", quarter, 0},
		{"soon", quarter, 0},
		{"0x10", quarter, 0},
		{"Mon, 23 Nov 2026 12:00:42 GMT", quarter, 42 * time.Second},
		{"Monday, 23-Nov-26 12:00:42 GMT", quarter, 42 * time.Second},
		{"Mon Nov 23 12:00:42 2026", quarter, 42 * time.Second},
		{"Mon, 23 Nov 2026 11:59:00 GMT", quarter, 0},
		{"Mon, 23 Nov 2026 13:00:00 GMT", quarter, quarter},
		{"Mon, 23 Nov 2036 12:00:00 GMT", year, year},
		{"Mon, 32 Nov 2026 12:00:00 GMT", quarter, 0},
	} {
		if got := RetryAfter(c.value, noon, c.limit); got != c.want {
			t.Errorf("%q, at most %v: %v, want %v", c.value, c.limit, got, c.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "Mon, 23 Nov 2026 12:00:42 GMT", "-1", "99999999999999999999", " 3", ""} {
		f.Add(seed, int64(0), int64(time.Hour))
	}
	f.Fuzz(func(t *testing.T, value string, unix, limit int64) {
		most := time.Duration(max(limit, 0))
		if got := RetryAfter(value, time.Unix(unix, 0), most); got < 0 || got > most {
			t.Fatalf("%q, at most %v: %v", value, most, got)
		}
	})
}
