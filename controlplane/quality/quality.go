// Package quality decides whether a candidate version is good enough to go on
// to more devices, from the errors that it and the version in place made on the
// same inputs of the same devices.
//
// It is a sequential test: it may look every minute, or whenever, and its error
// rates hold over all looks together. Everything here is a pure function of its
// arguments. From reports to a verdict:
//
//	Newer         of the reports of one start of a device the one that says most
//	Sums.Add      a device is the sum over its starts
//	Look          what all devices of a stage say at one time
//	Verdict.Text  the same in a sentence
//
// The device's value is d = ln(Σ|e_B| / Σ|e_A|), A in place and B the candidate.
// Their location is a trimmed mean, so that a broken sensor moves nothing
// (Tukey and McLaughlin 1963), and its bounds are those of a one-sided normal
// mixture (Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric,
// nonasymptotic confidence sequences", Annals of Statistics 2021; Waudby-Smith
// et al., "Time-uniform central limit theory and asymptotic confidence
// sequences", 2024).
package quality

import "time"

// Params are the settings of one stage. Margins are factors on the error: 1.03
// is 3 % worse.
type Params struct {
	// MStop: a candidate that is certainly above it is stopped.
	MStop float64 `json:"m_stop"`
	// MPass: a candidate that is certainly below it passes. The fewer devices
	// see it, the wider.
	MPass float64 `json:"m_pass"`
	// MGroup is MStop of a group, and MGroupPass MPass of one with at least
	// LargeGroup devices; 0: groups may be anything below MGroup.
	MGroup     float64 `json:"m_group"`
	MGroupPass float64 `json:"m_group_pass,omitempty"`
	// Rho is the precision 1/SE² at which the bounds are tightest, about
	// 1.25 / ln² MPass.
	Rho float64 `json:"rho"`

	// Probabilities of a wrong verdict over all looks of the stage.
	AlphaStop     float64 `json:"alpha_stop"`
	AlphaPass     float64 `json:"alpha_pass"`
	AlphaGroup    float64 `json:"alpha_group"` // of all groups together
	AlphaMinority float64 `json:"alpha_minority"`
	AlphaSilence  float64 `json:"alpha_silence"`

	// Before Minimum nothing but silence is a verdict, nor with fewer than
	// MinDevices devices, or MinShare of those assigned, that have MinPairs pairs.
	Minimum    time.Duration `json:"minimum"`
	MinPairs   uint64        `json:"min_pairs"`
	MinDevices int           `json:"min_devices"`
	MinShare   float64       `json:"min_share"`
	// Deadline is when waiting ends inconclusive; 0: never.
	Deadline time.Duration `json:"deadline"`

	// Epsilon is added to the mean error of both versions, so that a sensor that
	// does not move decides nothing: 0.001 of the target's training standard
	// deviation, in the unit of the reported errors.
	Epsilon float64 `json:"epsilon"`

	// Guard, if positive, makes the stage one that only stops: it passes after so
	// long without a reason to. The quality was judged before.
	Guard time.Duration `json:"guard,omitempty"`
}

const (
	// MinJudged is how many devices it takes to decide anything.
	MinJudged = 30
	// MinUntouched is how many untouched devices it takes to know what the time alone
	// changed, where there are no pairs.
	MinUntouched = 1000
	// minGroup and largeGroup are how many devices a group needs to stop a
	// rollout, and to have to pass.
	minGroup, largeGroup = 8, 50
	// apart is how far from the others a device is for the check of a minority.
	apart = 1.25
	// skew is the share of those that may be above without harm: two for each below.
	skew = 2.0 / 3
	// silentMargin is what the silent share may be above that of other devices.
	silentMargin, maxSilent = 0.02, 0.999
)

// Canary are the settings of a stage of about 1 % of the devices.
func Canary() Params {
	p := Wide()
	p.MPass, p.MGroupPass, p.Rho = 1.15, 0, 64
	return p
}

// Wide are the settings of a stage of about 10 % of the devices, or of a shadow
// that nobody is exposed to.
func Wide() Params {
	return Params{
		MStop: 1.03, MPass: 1.05, MGroup: 1.05, MGroupPass: 1.20, Rho: 512,
		AlphaStop: 0.0075, AlphaPass: 0.01, AlphaGroup: 0.0015, AlphaMinority: 1e-4, AlphaSilence: 0.001,
		Minimum: 5 * time.Minute, MinPairs: 5, MinDevices: MinJudged, MinShare: 0.6,
		Deadline: 8 * time.Hour,
	}
}

// Guarding returns p for a stage whose quality was judged before: it passes
// after the given time without a reason to stop.
func (p Params) Guarding(d time.Duration) Params {
	p.Guard = max(d, p.Minimum)
	p.Deadline = max(p.Deadline, p.Guard)
	return p
}
