//go:build race

package magnific

// raceDetector: allocations say nothing under it, because sync.Pool then drops
// what it should keep.
const raceDetector = true
