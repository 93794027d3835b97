package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/assetd/assetd/internal/server"
)

// rows takes a list run by run.
type rows interface {
	row(r server.Run) error
	end() error
}

// jsonRows prints one object per line.
type jsonRows struct{ *json.Encoder }

func (j jsonRows) row(r server.Run) error { return j.Encode(r) }
func (jsonRows) end() error               { return nil }

// tableRows prints a table for people. Rows are shown as they come, and a long list
// takes no memory: so many are aligned with each other.
type tableRows struct {
	table  *tabwriter.Writer
	narrow bool // too narrow for complete dates
	now    time.Time
	n      int
}

const (
	rowsAligned = 1000
	wideEnough  = 120 // characters
)

func newTableRows(w io.Writer, width int, now time.Time) *tableRows {
	return &tableRows{table: newTable(w), narrow: width > 0 && width < wideEnough, now: now}
}

func (t *tableRows) head() {
	fmt.Fprintln(t.table, "RUN\tSTATE\tAPI\tSTORED\tLOST\tDAMAGED\tSIZE\tHANDED IN\tDIES\tNOTE")
}

func (t *tableRows) row(r server.Run) error {
	if t.n == 0 { // not before: a command that fails prints nothing else
		t.head()
	}
	handedIn := r.HandedIn.Local().Format(time.DateTime)
	if t.narrow {
		handedIn = short(t.now.Sub(r.HandedIn)) + " ago"
	}
	expires := "-"
	if r.DiesAt != nil {
		expires = until(*r.DiesAt, t.now)
	}
	fmt.Fprintf(t.table, "%s\t%s\t%s\t%d/%d\t%d\t%d\t%s\t%s\t%s\t%s\n", r.RunID, r.State, dash(clean(string(r.Status))),
		r.Stored, r.Assets, r.Lost, damaged(r), humanize.IBytes(uint64(r.Bytes)), handedIn, expires, clean(note(r)))
	if t.n++; t.n%rowsAligned == 0 {
		return t.table.Flush()
	}
	return nil
}

func (t *tableRows) end() error {
	if t.n == 0 {
		t.head()
	}
	return t.table.Flush()
}

// damaged is how many files of a run are damaged or missing, its own record one of them.
func damaged(r server.Run) int {
	if r.BadRecord != "" {
		return r.Damaged + 1
	}
	return r.Damaged
}

// until says in a few characters how far a moment is away.
func until(t, now time.Time) string {
	if d := t.Sub(now); d > 0 {
		return "in " + short(d)
	}
	return short(now.Sub(t)) + " ago"
}

// short is a time that has passed or will, in its largest unit; below two hours,
// where it matters, to the minute.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// moment reads a time that a person writes: a date, a date and a time, both of this
// machine's zone where they name none, or how long ago it was. Empty: the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is neither a time like 2026-02-25, 2026-02-25 12:00 or 2026-02-25T12:00:00Z, nor how long ago, like 90m or 7d", text)
}
