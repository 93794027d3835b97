package magnific

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestRetryAfterIsReadInBothFormsAndBounded(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		" 7 ":                            7 * time.Second,
		"900":                            15 * time.Minute,
		"901":                            15 * time.Minute,
		"315360000":                      15 * time.Minute,
		"99999999999999999999999":        15 * time.Minute,
		"-5":                             0,
		"1.5":                            0,
		"soon":                           0,
		"0x10":                           0,
		"Mon, 23 Nov 2026 12:00:42 GMT":  42 * time.Second,
		"Monday, 23-Nov-26 12:00:42 GMT": 42 * time.Second,
		"Mon Nov 23 12:00:42 2026":       42 * time.Second,
		"Mon, 23 Nov 2026 11:59:00 GMT":  0,
		"Mon, 23 Nov 2036 12:00:00 GMT":  15 * time.Minute,
		"Mon, 32 Nov 2026 12:00:00 GMT":  0,
	} {
		if got := retryAfter(value, noon); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "Mon, 23 Nov 2026 12:00:42 GMT", "-1", "99999999999999999999", " 3"} {
		f.Add(seed, int64(0))
	}
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		if got := retryAfter(value, time.Unix(unix, 0)); got < 0 || got > maxRetryAfter {
			t.Fatalf("%q: %v", value, got)
		}
	})
}
