package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// A tier is one implementation of the same numbers.
type tier uint8

const (
	generic    tier = iota // plain Go; always built
	avx2                   // AVX2 and FMA
	avxVNNI                // AVX2 with VPDPBUSD in its VEX form
	avx512VNNI             // AVX-512 F, BW, DQ, VL and VNNI
	neon                   // arm64 ARMv8.0
	dotProd                // arm64 with SDOT
)

var tierNames = [...]string{
	generic: "generic", avx2: "avx2", avxVNNI: "avxvnni", avx512VNNI: "avx512vnni", neon: "neon", dotProd: "dotprod",
}

func (t tier) String() string { return tierNames[t] }

// A choice is a tier of this build and whether this CPU has it.
type choice struct {
	tier tier
	has  *bool
}

// Tiers are the names of the tiers that this build and CPU have, best first,
// generic last.
func Tiers() []string {
	var names []string
	for _, c := range tiers {
		if *c.has {
			names = append(names, c.tier.String())
		}
	}
	return names
}

// TierVariable is the environment variable that forces a tier.
const TierVariable = "SANDPIPER_KERNEL"

var selected = sync.OnceValues(func() (tier, error) {
	t, err := selectTier(os.Getenv(TierVariable))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", TierVariable, err)
	}
	return t, nil
})

// selectTier is the named tier, or the best for "".
func selectTier(name string) (tier, error) {
	for _, c := range tiers {
		if *c.has && (name == "" || name == c.tier.String()) {
			return c.tier, nil
		}
	}
	for _, known := range tierNames {
		if name == known {
			return 0, fmt.Errorf("%q: this build and CPU have %s: %w", name, strings.Join(Tiers(), ", "), ErrTier)
		}
	}
	return 0, fmt.Errorf("%q is none: want one of %s: %w", name, strings.Join(Tiers(), ", "), ErrTier)
}

// Select chooses the tier, once for the process: the best this build and CPU
// have, or the one SANDPIPER_KERNEL names. It returns its name, or an error
// that matches ErrTier and names the tiers there are; NewInt8 and NewFloat32
// return the same error.
func Select() (string, error) {
	t, err := selected()
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// Tier is the name Select chose, "" if it failed.
func Tier() string {
	name, _ := Select()
	return name
}
