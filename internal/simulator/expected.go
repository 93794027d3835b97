package simulator

import (
	"slices"

	"github.com/assetd/assetd/internal/run"
)

// Served is what the CDN gave of an asset.
type Served struct {
	Requests int   // on record
	Bytes    int64 // of all these answers, whatever they were
	Distinct int64 // bytes of the object as it is now that were given at least once
	Whole    bool  // all of them were, in one answer or in several
}

// Served sums up what the CDN gave of an asset; running answers count when they
// end (see Idle).
func (s *Sim) Served(key run.Key) Served {
	var sum Served
	for _, r := range s.Downloads(key) {
		sum.Requests++
		if r.Done {
			sum.Bytes += r.Sent
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.assets[key]; a != nil {
		sum.Distinct = a.now.given.sum()
		sum.Whole = sum.Distinct == a.now.size
	}
	return sum
}

// ExpectedRun is what must become of a run.
type ExpectedRun struct {
	ID      run.ID
	App     string
	Status  run.Status  // the first terminal one; empty: it never ends
	Outcome run.Outcome // empty: it never ends
	Assets  []Expected  // in the order in which they were added
}

// Expected is what must become of an asset, as far as its faults tell: lost where
// one of them always strikes and cannot be passed, or its URL is dead for ever;
// stored otherwise. ExpectLost and ExpectStored overrule it.
type Expected struct {
	Key         run.Key // its ID is the one that tells the asset apart
	Size        int64   // bytes
	SHA256      string  // hex, of the object as it is now
	ContentType string
	Older       []string // SHA-256 of what stood there before it changed: right for who had it before
	Lost        bool
}

// Expected is what must become of every run, in the order in which they were
// added. It hashes each object the first time.
func (s *Sim) Expected() []ExpectedRun {
	s.mu.Lock()
	var all []ExpectedRun
	var hashes [][]func() string // of each asset, the newest first
	for _, r := range s.order {
		e := r.expected()
		for _, a := range r.assets {
			sums := []func() string{a.now.hash}
			for _, v := range slices.Backward(a.before) {
				sums = append(sums, v.hash)
			}
			hashes = append(hashes, sums)
		}
		all = append(all, e)
	}
	s.mu.Unlock()
	for i := range all { // hashing takes its time
		for j := range all[i].Assets {
			a := &all[i].Assets[j]
			a.SHA256 = hashes[0][0]()
			for _, older := range hashes[0][1:] {
				a.Older = append(a.Older, older())
			}
			hashes = hashes[1:]
		}
	}
	return all
}

// expected is what must become of the run, but for the hashes.
func (r *script) expected() ExpectedRun {
	e := ExpectedRun{ID: r.id, App: r.app}
	for i, p := range r.phases {
		if p.Status.Terminal() && (!p.Empty || i == len(r.phases)-1) {
			e.Status = p.Status
			break
		}
	}
	judged := run.Run{Status: e.Status, Assets: len(r.assets)}
	for _, a := range r.assets {
		lost := a.expectLost()
		if lost {
			judged.Lost++
		} else {
			judged.Stored++
		}
		e.Assets = append(e.Assets, Expected{Key: a.key, Size: a.now.size, ContentType: string(a.format), Lost: lost})
	}
	if e.Status != "" {
		e.Outcome = judged.Judge()
	}
	return e
}

func (a *asset) expectLost() bool {
	if a.lost != nil {
		return *a.lost
	}
	if a.url != nil {
		return true
	}
	dead := a.signing.Life < 0 || a.signing.Dead >= forEver
	return dead || slices.ContainsFunc(a.faults, func(f *Armed) bool { return f.fault.deadly && f.fault.times == 0 && !f.off })
}

// forEver is so many answers that no test polls as often.
const forEver = 1000
