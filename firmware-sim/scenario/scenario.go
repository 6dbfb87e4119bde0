// Package scenario says what a fleet of simulated devices is like and what its
// devices do once they get a new version. The same scenario is played by a
// rehearsal in virtual time (controlplane/rehearse) and by simulated devices on a
// real broker.
//
// The errors that a device reports are those the quality check was chosen on: of a
// heavy tail (Student's t with 3 degrees of freedom), correlated in time (0.9) and
// between the two versions (0.8), on a scale that differs from device to device
// (log-normal, 0.7). What a real fleet does differently is not seen here; the other
// way round, a plan that fails here has no reason to do better there. Or they are the
// recorded errors of two versions.
package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// ErrScenario: a scenario that cannot be played.
var ErrScenario = errors.New("invalid scenario")

// kinds of behaviour of a device that got the version; Clock is one from the
// beginning.
const (
	Biased   = "biased"   // its errors are Ratio times as large as those before
	Slow     = "slow"     // predictions take Ratio times as long
	Silent   = "silent"   // it is not heard of again
	Crashing = "crashing" // its agent starts again and again
	Failing  = "failing"  // it cannot run the version, and says so
	Offline  = "offline"  // it is away For so long, and then goes on
	Clock    = "clock"    // its clock is By ahead of the time, or behind it
)

// kinds lists them.
var kinds = []string{Biased, Slow, Silent, Crashing, Failing, Offline, Clock}

// A Scenario is a fleet and what happens to it.
type Scenario struct {
	Devices int    `toml:"devices"`
	Seed    uint64 `toml:"seed"`
	// Ratio is the candidate's error as a multiple of that of the version in place.
	Ratio float64 `toml:"ratio"`
	// Silent is the share of devices that are away all the time, Broken that of
	// devices whose sensor makes their errors mean nothing.
	Silent float64 `toml:"silent"`
	Broken float64 `toml:"broken"`
	// Sample is the time between two comparisons with the truth on a device.
	Sample protocol.Duration `toml:"sample"`
	Until  protocol.Duration `toml:"until"` // when the rehearsal ends at the latest

	// Errors names the file of Recorded, for who reads a scenario: see ReadErrors.
	Errors string `toml:"errors"`
	// Recorded are errors that two versions made, a series of each device they were
	// recorded on; nil: errors of the kind above are made up. A device replays one from
	// a random place on, and begins it again at its end.
	Recorded [][]Pair `toml:"-"`

	Groups     []Group     `toml:"group"`
	Behaviours []Behaviour `toml:"behaviour"`
	People     []Action    `toml:"person"`
}

// A Group is a part of the fleet that the plan's label tells apart.
type Group struct {
	Name  string  `toml:"name"`
	Share float64 `toml:"share"`
	Ratio float64 `toml:"ratio"` // instead of the scenario's; 0: the same
}

// A Behaviour is what some devices do once they run the version.
type Behaviour struct {
	Kind  string            `toml:"kind"`
	Share float64           `toml:"share"` // of the devices, or of those of Group
	Group string            `toml:"group"`
	Ratio float64           `toml:"ratio"` // of biased and slow
	After protocol.Duration `toml:"after"` // since it got the version
	For   protocol.Duration `toml:"for"`   // of offline; 0: for good
	By    protocol.Duration `toml:"by"`    // of clock; negative: it is behind
}

// Actions of a person.
const (
	Promote = "promote"
	Pause   = "pause"
	Resume  = "resume"
	Abort   = "abort"
)

var actions = []string{Promote, Pause, Resume, Abort}

// An Action is what a person does.
type Action struct {
	At protocol.Duration `toml:"at"`
	Do string            `toml:"do"` // promote, pause, resume or abort
	By string            `toml:"by"`
}

// WithDefaults fills in what s leaves open: 10,000 devices, an equally good version,
// 5 % silent, 2 % broken, a sample a minute, a week.
func (s Scenario) WithDefaults() Scenario {
	set := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	if s.Devices == 0 {
		s.Devices = 10_000
	}
	set(&s.Ratio, 1)
	if s.Sample == 0 {
		s.Sample = protocol.Duration(time.Minute)
	}
	if s.Until == 0 {
		s.Until = protocol.Duration(7 * 24 * time.Hour)
	}
	s.Groups, s.Behaviours, s.People = slices.Clone(s.Groups), slices.Clone(s.Behaviours), slices.Clone(s.People)
	for i := range s.Groups {
		set(&s.Groups[i].Ratio, s.Ratio)
	}
	for i := range s.Behaviours {
		set(&s.Behaviours[i].Ratio, 1)
	}
	for i := range s.People {
		if s.People[i].By == "" {
			s.People[i].By = "a person"
		}
	}
	return s
}

const maxDevices = 1_000_000

// Check reports what is wrong with a scenario that has its defaults.
func (s Scenario) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrScenario, fmt.Sprintf(format, args...))
	}
	switch {
	case s.Devices < 1 || s.Devices > maxDevices:
		return wrong("devices: %d; use 1 to %d", s.Devices, maxDevices)
	case !(s.Ratio > 0 && s.Ratio < 1e6):
		return wrong("ratio: %v; use a number above 0, such as 1.2 for 20 %% worse", s.Ratio)
	case !share(s.Silent), !share(s.Broken):
		return wrong("silent and broken are shares of the devices, 0 to 1")
	case time.Duration(s.Sample) < time.Second:
		return wrong("sample: %s; use 1s or more", s.Sample)
	case s.Until <= 0 || time.Duration(s.Until) > 365*24*time.Hour:
		return wrong("until: %s; use a time up to a year", s.Until)
	case s.Errors != "" && s.Recorded == nil:
		return wrong("errors: %s was not read", s.Errors)
	}
	if err := checkRecorded(s.Recorded); err != nil {
		return wrong("errors: %v", err)
	}
	sum := 0.0
	for i, g := range s.Groups {
		if sum += g.Share; g.Name == "" || !share(g.Share) || !(g.Ratio > 0 && g.Ratio < 1e6) {
			return wrong("group %d, %q: want a name, a share from 0 to 1 and a ratio above 0", i+1, g.Name)
		}
	}
	if sum > 1+1e-9 {
		return wrong("the groups' shares add up to %v", sum)
	}
	for i, b := range s.Behaviours {
		if err := s.checkBehaviour(b); err != nil {
			return wrong("behaviour %d: %v", i+1, err)
		}
	}
	for i, a := range s.People {
		if !slices.Contains(actions, a.Do) || a.At < 0 {
			return wrong("person %d: do %q at %s; use %s, at a time from the start on", i+1, a.Do, a.At, strings.Join(actions, ", "))
		}
	}
	return nil
}

func share(v float64) bool { return v >= 0 && v <= 1 }

func (s Scenario) checkBehaviour(b Behaviour) error {
	if !slices.Contains(kinds, b.Kind) {
		return fmt.Errorf("unknown kind %q; use %s", b.Kind, strings.Join(kinds, ", "))
	}
	known := b.Group == "" || slices.ContainsFunc(s.Groups, func(g Group) bool { return g.Name == b.Group })
	switch {
	case !known:
		return fmt.Errorf("no group is called %q", b.Group)
	case !share(b.Share) || b.Share == 0:
		return fmt.Errorf("%s: share %v; use a share above 0 and up to 1", b.Kind, b.Share)
	case !(b.Ratio > 0 && b.Ratio < 1e6):
		return fmt.Errorf("%s: ratio %v; use a number above 0", b.Kind, b.Ratio)
	case b.After < 0, b.For < 0:
		return fmt.Errorf("%s: after and for are times from 0 on", b.Kind)
	case b.Kind == Clock && (b.By == 0 || b.After != 0 || b.For != 0):
		return fmt.Errorf("%s: by how much it is wrong, such as 72h or -72h, and neither after nor for: it is so all the time", b.Kind)
	case b.Kind == Failing && b.After != 0:
		return fmt.Errorf("%s: it fails as it gets the version, never after that", b.Kind)
	case b.Kind != Clock && b.By != 0:
		return fmt.Errorf("%s: by is of kind %s alone", b.Kind, Clock)
	}
	return nil
}
