//go:build !noasm

package simd

// NEON is part of ARMv8.
var NEON = true

// Tiers are those of this build, for tests to walk.
var Tiers = []Tier{{"neon", &NEON}}
