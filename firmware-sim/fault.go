package firmwaresim

import (
	"slices"
	"time"
)

// Faults is what goes wrong with a device, on schedule.
type Faults struct {
	// CrashOn names versions, such as "vibration:v2": whenever one of them
	// answers while on trial, the process dies at once, without a word to the
	// broker, and starts again after DeviceConfig.Restart.
	CrashOn []string
	// NaNOn names versions whose outputs become NaN.
	NaNOn []string
	// Offline are times without a network.
	Offline []Outage
}

// An Outage is a time of the simulation: from From after its start, for For.
type Outage struct{ From, For time.Duration }

func (f Faults) crashes(version string) bool { return slices.Contains(f.CrashOn, version) }

// offlineAt reports whether there is no network at time t, and when that
// changes next; 0 if never.
func (f Faults) offlineAt(t time.Duration) (offline bool, next time.Duration) {
	for _, w := range f.Offline {
		end := w.From + w.For
		switch {
		case t < w.From:
			if next == 0 || w.From < next {
				next = w.From
			}
		case t < end:
			offline = true
			if next == 0 || end < next {
				next = end
			}
		}
	}
	return offline, next
}
