//go:build race

package predictor

// raceDetector: under it a sync.Pool throws away some of what it is given, so that
// allocations cannot be counted.
const raceDetector = true
