package scenario

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func TestBadScenarios(t *testing.T) {
	for name, change := range map[string]func(*Scenario){
		"devices":        func(s *Scenario) { s.Devices = -1 },
		"many devices":   func(s *Scenario) { s.Devices = maxDevices + 1 },
		"ratio":          func(s *Scenario) { s.Ratio = -1 },
		"no number":      func(s *Scenario) { s.Ratio = math.NaN() },
		"silent":         func(s *Scenario) { s.Silent = 1.5 },
		"broken":         func(s *Scenario) { s.Broken = -0.1 },
		"sample":         func(s *Scenario) { s.Sample = protocol.Duration(time.Millisecond) },
		"until":          func(s *Scenario) { s.Until = -1 },
		"group":          func(s *Scenario) { s.Groups = []Group{{Share: 0.5}} },
		"groups":         func(s *Scenario) { s.Groups = []Group{{Name: "a", Share: 0.6}, {Name: "b", Share: 0.6}} },
		"kind":           func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: "slient", Share: 1}} },
		"share":          func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent}} },
		"group of":       func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 1, Group: "x"}} },
		"after":          func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 1, After: -1}} },
		"person":         func(s *Scenario) { s.People = []Action{{Do: "sleep"}} },
		"person's time":  func(s *Scenario) { s.People = []Action{{Do: Abort, At: -1}} },
		"tick of nobody": func(s *Scenario) { s.People = []Action{{Do: "tick"}} },
		"clock":          func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Clock, Share: 1}} },
		"clock later":    func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Clock, Share: 1, By: 1, After: 1}} },
		"failing later":  func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Failing, Share: 1, After: 1}} },
		"by of another":  func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 1, By: 1}} },
		"unread":         func(s *Scenario) { s.Errors = "errors.csv" },
		"no errors":      func(s *Scenario) { s.Recorded = [][]Pair{} },
		"empty series":   func(s *Scenario) { s.Recorded = [][]Pair{{{1, 1}}, {}} },
		"no error":       func(s *Scenario) { s.Recorded = [][]Pair{{{1, math.NaN()}}} },
		"huge error":     func(s *Scenario) { s.Recorded = [][]Pair{{{-1e19, 1}}} },
	} {
		s := Scenario{Devices: 50}
		change(&s)
		if err := s.WithDefaults().Check(); !errors.Is(err, ErrScenario) {
			t.Errorf("%s: %v, want ErrScenario", name, err)
		}
	}
}

func TestGoodScenarios(t *testing.T) {
	for name, s := range map[string]Scenario{
		"defaults": {},
		"groups":   {Groups: []Group{{Name: "a", Share: 0.6}, {Name: "b", Share: 0.4, Ratio: 2}}, Behaviours: []Behaviour{{Kind: Biased, Share: 1, Group: "b", Ratio: 2}}},
		"clock":    {Behaviours: []Behaviour{{Kind: Clock, Share: 1, By: protocol.Duration(-time.Hour)}}},
		"people":   {People: []Action{{Do: Pause}, {Do: Resume, At: 5}, {Do: Promote, At: 6}, {Do: Abort, At: 7}}},
	} {
		if err := s.WithDefaults().Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
