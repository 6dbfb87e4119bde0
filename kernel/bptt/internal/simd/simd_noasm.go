//go:build noasm || !(amd64 || arm64)

package simd

// Tiers are those of this build: none.
var Tiers []Tier
