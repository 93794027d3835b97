package transfer

import (
	"testing"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/transfer/ranges"
)

// A transfer that was held goes on while its URL may have expired: further connections
// ask for what lies ahead of it, and are refused. What it comes to before they are
// answered it takes, also after bytes that are there already: no other answer ever brings it.
func TestParallel_AnAnswerTakesWhatOthersOnlyAskFor(t *testing.T) {
	const mb = 1 << 20
	for name, there := range map[string][]run.Span{
		"next to it":                   nil,
		"after bytes that are there":   {{From: 4 * mb, To: 5 * mb}},
		"after some that are there":    {{From: 4 * mb, To: 5 * mb}, {From: 7 * mb, To: 9 * mb}},
		"next to it, and others after": {{From: 9 * mb, To: 10 * mb}},
	} {
		set := ranges.Missing(0, 32*mb, there)
		p := &parallel{ctx: t.Context(), ranges: set, length: 64 * mb, expiring: true, readOn: true}
		answered := &worker{p: p, assigned: set.Take(4 * mb), limit: 32 * mb}
		p.workers = []*worker{answered}
		for range 3 {
			p.workers = append(p.workers, &worker{p: p, assigned: set.Take(2 * mb)})
		}
		got := int64(0)
		for pos := int64(0); pos < 32*mb; pos += mb / 4 {
			for from, n := pos, int64(mb/4); n > 0; {
				at, count, _ := p.claim(answered, from, int(n))
				if count == 0 {
					break
				}
				got += int64(count)
				n -= at + int64(count) - from
				from = at + int64(count)
			}
		}
		want := int64(32 * mb)
		for _, s := range there {
			want -= s.Len()
		}
		if got != want {
			t.Errorf("%s: it takes %d bytes of %d", name, got, want)
		}
	}
}
