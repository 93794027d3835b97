//go:build !race

package magnific

const raceDetector = false
