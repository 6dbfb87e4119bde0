//go:build race

package main

// raceDetector: the test runs many times as slow as without.
const raceDetector = true
