package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// A tier is one implementation of the same numbers.
type tier uint8

// generic is plain Go. It is always built, and last in tiers.
const generic tier = 0

// tiers are what this build can choose from on this CPU, best first.
var tiers = []tier{generic}

func (t tier) String() string { return [...]string{generic: "generic"}[t] }

// TierVariable is the environment variable that forces a tier.
const TierVariable = "SANDPIPER_KERNEL"

var selected = sync.OnceValues(func() (tier, error) { return selectTier(os.Getenv(TierVariable)) })

func selectTier(name string) (tier, error) {
	if name == "" {
		return tiers[0], nil
	}
	names := make([]string, len(tiers))
	for i, t := range tiers {
		if names[i] = t.String(); names[i] == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%s=%q: this build and CPU have %s: %w", TierVariable, name, strings.Join(names, ", "), ErrTier)
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
