package quality

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A Decision is what a look decides.
type Decision string

const (
	Wait         Decision = "wait"
	Pass         Decision = "pass"
	Stop         Decision = "stop"
	Inconclusive Decision = "inconclusive" // the deadline passed
)

// Reasons of a verdict.
const (
	ReasonSilence  = "silence"  // stop: more devices are silent or broken than elsewhere
	ReasonQuality  = "quality"  // stop: the error is higher
	ReasonGroup    = "group"    // stop: it is for one group
	ReasonMinority = "minority" // stop: it is for some devices that share no label
	ReasonMinutes  = "minutes"  // wait: the stage has just begun
	ReasonDevices  = "devices"  // wait, inconclusive: too few devices have pairs
	// ReasonUntouched: too few devices that the rollout has not touched tell what
	// the time alone changed; wait, inconclusive.
	ReasonUntouched = "untouched"
	ReasonTruth     = "no truth" // wait, inconclusive: no device has any
	ReasonFew       = "few"      // wait, inconclusive: too few devices to decide anything; a person does
	ReasonOpen      = "open"     // wait, inconclusive: the bounds allow both
	ReasonGuard     = "guard"    // wait, pass: nothing was found that stops a version that was judged before
)

// A Loss says why a device counts as lost.
type Loss string

const (
	Silent    Loss = "silent"     // no report within three intervals
	NonFinite Loss = "non-finite" // B gave numbers that are none
	Crashed   Loss = "crashed"    // its agent started again and again
	Refused   Loss = "failed"     // it could not run B, and told why
)

// A Device is one that is assigned to a stage.
type Device struct {
	ID    string
	Group string // value of the rollout's label; "" for none
	Sums
	Lost  Loss // "" for a device that is well
	Known bool // its loss was recorded before
}

// A Stage is what a look is at.
type Stage struct {
	Elapsed time.Duration // since it began
	Look    int           // counts looks
	Silent  float64       // share of silent devices among those that the rollout has not touched
	Devices []Device      // all that are assigned
	// Differences says that the evidence is no pairs, but difference in differences:
	// SumA of every device is Pairs times its mean error before the stage, and SumB
	// its sum since. What changed by itself on the Untouched, that keep the version
	// in place, is taken off the others.
	Differences bool
	Untouched   []Device
}

// A Verdict is the outcome of one look. Ratios are of the candidate's error to
// that of the version in place.
type Verdict struct {
	Decision Decision `json:"verdict"`
	Reason   string   `json:"reason"`

	Ratio    float64 `json:"ratio,omitempty"`
	Lower    float64 `json:"lower,omitempty"` // bounds of Ratio, valid at every look
	Upper    float64 `json:"upper,omitempty"`
	SE       float64 `json:"se,omitempty"` // of ln Ratio
	N        int     `json:"n"`            // devices with enough pairs
	Assigned int     `json:"assigned"`
	Pairs    uint64  `json:"pairs"`
	// Untouched counts the devices that tell what the time alone changed, and Drift
	// is what it made of their errors, as a factor.
	Untouched int     `json:"untouched,omitempty"`
	Drift     float64 `json:"drift,omitempty"`

	Silent         int     `json:"silent"` // devices that are lost, silent or for another reason
	SilentShare    float64 `json:"silent_elsewhere"`
	SilentPvalue   float64 `json:"silent_p"` // probability of so many by chance
	MinorityAbove  int     `json:"above,omitempty"`
	MinorityBelow  int     `json:"below,omitempty"`
	MinorityPvalue float64 `json:"minority_p,omitempty"`

	Groups   []Group  `json:"groups,omitempty"`
	Minority []string `json:"minority,omitempty"` // devices

	Boundary Bounds  `json:"boundary,omitzero"` // in standard errors
	Margins  Margins `json:"margins"`
	Look     int     `json:"look"`
	Elapsed  float64 `json:"elapsed_s"`
	// Expected is how long it takes in all until it is decided, at this pace.
	Expected float64 `json:"expected_s,omitempty"`
	Next     string  `json:"next,omitempty"` // what follows

	theta   float64
	control estimate // of Untouched; zero for pairs
}

// Bounds are half widths.
type Bounds struct {
	Stop float64 `json:"stop"`
	Pass float64 `json:"pass"`
}

// Margins repeat those of the stage.
type Margins struct {
	Stop      float64 `json:"stop"`
	Pass      float64 `json:"pass"`
	Group     float64 `json:"group"`
	GroupPass float64 `json:"group_pass,omitempty"`
}

// A Group is the part of the devices with one value of the label.
type Group struct {
	Value string  `json:"value"`
	N     int     `json:"n"`
	Ratio float64 `json:"ratio"`
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"` // for the decision to pass
	SE    float64 `json:"se"`
}

// Harmed is a device whose own errors are above a limit.
type Harmed struct {
	ID           string
	Ratio, Bound float64 // of B's error to A's, and what it may be
}

// Harmed returns the devices that a verdict to stop is about, the worst first: of
// one on the quality those above its margin, likewise of one on a group those in it,
// and those of the minority. None for other verdicts.
func (v Verdict) Harmed(devices []Device, p Params) []Harmed {
	var bound float64
	in := func(Device) bool { return true }
	switch {
	case v.Decision != Stop:
		return nil
	case v.Reason == ReasonQuality:
		bound = p.MStop
	case v.Reason == ReasonGroup:
		bound = p.MGroup
		in = func(d Device) bool { return d.Group == v.Groups[0].Value }
	case v.Reason == ReasonMinority:
		bound = v.Ratio * apart
	default:
		return nil
	}
	var out []Harmed
	for _, d := range devices {
		if ratio := math.Exp(d.value(p.Epsilon) - v.control.theta); d.Pairs >= p.MinPairs && in(d) && ratio > bound {
			out = append(out, Harmed{d.ID, finite(ratio), bound})
		}
	}
	slices.SortFunc(out, func(a, b Harmed) int {
		return cmp.Or(cmp.Compare(b.Ratio, a.Ratio), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Look decides from what the devices of a stage have reported.
func Look(s Stage, p Params) Verdict {
	v := Verdict{
		Decision: Wait, Look: s.Look, Elapsed: s.Elapsed.Seconds(), Assigned: len(s.Devices),
		SilentShare: s.Silent, Margins: Margins{p.MStop, p.MPass, p.MGroup, p.MGroupPass},
	}
	v.untouched(s, p)
	values := make([]value, 0, len(s.Devices))
	for _, d := range s.Devices {
		v.Pairs += d.Pairs
		if d.Lost != "" {
			v.Silent++
		}
		if d.Pairs >= p.MinPairs {
			values = append(values, value{d.ID, d.Group, d.value(p.Epsilon) - v.control.theta})
		}
	}
	v.N = len(values)
	v.SilentPvalue = atLeast(v.Assigned, min(s.Silent+silentMargin, maxSilent), v.Silent)
	var e estimate
	if v.N >= minEstimate {
		e = location(numbers(values))
		e.se = math.Hypot(e.se, v.control.se)
		v.describe(e, p)
	}
	v.Decision, v.Reason = v.decide(s, p, e, values)
	if v.Decision == Wait && p.Deadline > 0 && s.Elapsed >= p.Deadline {
		v.Decision = Inconclusive
	}
	if v.Decision == Wait && v.Reason == ReasonOpen {
		v.Expected = expected(e, p, s.Elapsed).Seconds()
	}
	return v
}

// untouched estimates what the time alone changed.
func (v *Verdict) untouched(s Stage, p Params) {
	var ds []float64
	for _, d := range s.Untouched {
		if d.Pairs >= p.MinPairs {
			ds = append(ds, d.value(p.Epsilon))
		}
	}
	if v.Untouched = len(ds); v.Untouched >= minEstimate {
		v.control = location(ds)
		v.Drift = finite(math.Exp(v.control.theta))
	}
}

// A value is that of a device with enough pairs.
type value struct {
	id, group string
	d         float64
}

func numbers(values []value) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v.d
	}
	return out
}

// value is d = ln((Σ|e_B| + εn) / (Σ|e_A| + εn)). Two versions without any
// error are equal; against one without, the smallest and largest numbers keep it
// finite.
func (d Device) value(epsilon float64) float64 {
	more := epsilon * float64(d.Pairs)
	a, b := d.SumA+more, d.SumB+more
	if a == 0 && b == 0 {
		return 0
	}
	return math.Log(max(b, math.SmallestNonzeroFloat64)) - math.Log(max(a, math.SmallestNonzeroFloat64))
}

func (v *Verdict) describe(e estimate, p Params) {
	precision := 1 / (e.se * e.se)
	v.theta, v.SE = e.theta, e.se
	v.Boundary = Bounds{Boundary(precision, p.Rho, p.AlphaStop), Boundary(precision, p.Rho, p.AlphaPass)}
	v.Ratio = finite(math.Exp(e.theta))
	v.Lower = finite(math.Exp(e.lower(p.Rho, p.AlphaStop)))
	v.Upper = finite(math.Exp(e.upper(p.Rho, p.AlphaPass)))
}

// finite keeps a ratio within what JSON can say.
func finite(x float64) float64 { return min(x, math.MaxFloat64) }

// decide applies the rules in their order.
func (v *Verdict) decide(s Stage, p Params, e estimate, values []value) (Decision, string) {
	switch {
	case v.Assigned < MinJudged:
		return Wait, ReasonFew
	case v.SilentPvalue < p.AlphaSilence:
		return Stop, ReasonSilence
	case s.Elapsed < p.Minimum:
		return Wait, ReasonMinutes
	case v.Pairs == 0:
		return Wait, ReasonTruth
	case s.Differences && v.Untouched < MinUntouched:
		return Wait, ReasonUntouched
	case v.N < p.MinDevices || float64(v.N) < p.MinShare*float64(v.Assigned):
		return Wait, ReasonDevices
	}
	v.group(values, e, p)
	v.minority(values, e.theta)
	switch {
	case e.lower(p.Rho, p.AlphaStop) > math.Log(p.MStop):
		return Stop, ReasonQuality
	case slices.ContainsFunc(v.Groups, func(g Group) bool { return g.Lower > p.MGroup }):
		return Stop, ReasonGroup
	case v.MinorityPvalue < p.AlphaMinority:
		return Stop, ReasonMinority
	}
	v.Minority = nil // nobody to name
	switch {
	case p.Guard > 0 && s.Elapsed >= p.Guard:
		return Pass, ReasonGuard
	case p.Guard > 0:
		return Wait, ReasonGuard
	case e.upper(p.Rho, p.AlphaPass) < math.Log(p.MPass) && v.groupsPass(p):
		return Pass, ReasonQuality
	}
	return Wait, ReasonOpen
}

// group estimates each value of the label that enough devices have. A group
// whose few devices happen to agree is not taken for more certain than the
// spread of all devices allows.
func (v *Verdict) group(values []value, all estimate, p Params) {
	byValue := map[string][]float64{}
	for _, d := range values {
		if d.group != "" {
			byValue[d.group] = append(byValue[d.group], d.d)
		}
	}
	tested := 0
	for _, ds := range byValue {
		if len(ds) >= minGroup {
			tested++
		}
	}
	for name, ds := range byValue {
		if len(ds) < minGroup {
			continue
		}
		e := location(ds)
		e.se = math.Hypot(max(e.se, all.spread/math.Sqrt(float64(e.n))), v.control.se)
		v.Groups = append(v.Groups, Group{
			Value: name, N: e.n, SE: e.se, Ratio: finite(math.Exp(e.theta)),
			Lower: finite(math.Exp(e.lower(p.Rho, p.AlphaGroup/float64(tested)))),
			Upper: finite(math.Exp(e.upper(p.Rho, p.AlphaPass))),
		})
	}
	// The worst first.
	slices.SortFunc(v.Groups, func(a, b Group) int {
		switch {
		case a.Lower > b.Lower, a.Lower == b.Lower && a.Value < b.Value:
			return -1
		}
		return 1
	})
}

func (v *Verdict) groupsPass(p Params) bool {
	return p.MGroupPass == 0 || !slices.ContainsFunc(v.Groups, func(g Group) bool { return g.N >= largeGroup && g.Upper >= p.MGroupPass })
}

// minority counts the devices that are far above and far below the others:
// without harm there are at most skew of them above, since the errors of real
// versions are not symmetric. A small probability is only ever one of too many above.
func (v *Verdict) minority(values []value, theta float64) {
	limit := math.Log(apart)
	for _, d := range values {
		switch {
		case d.d-theta > limit:
			v.MinorityAbove++
			v.Minority = append(v.Minority, d.id)
		case d.d-theta < -limit:
			v.MinorityBelow++
		}
	}
	v.MinorityPvalue = atLeast(v.MinorityAbove+v.MinorityBelow, skew, v.MinorityAbove)
	slices.Sort(v.Minority)
}

// expected is when one of the bounds passes its margin if the standard error
// falls as 1/√t: 0 if that is further off than anyone waits.
func expected(e estimate, p Params, elapsed time.Duration) time.Duration {
	const most = 1 << 20
	decided := func(factor float64) bool {
		at := e
		at.se = e.se / math.Sqrt(factor)
		return at.lower(p.Rho, p.AlphaStop) > math.Log(p.MStop) || at.upper(p.Rho, p.AlphaPass) < math.Log(p.MPass)
	}
	if !decided(most) {
		return 0
	}
	low, high := 1.0, 2.0
	for !decided(high) {
		low, high = high, 2*high
	}
	for high/low > 1.01 {
		if mid := math.Sqrt(low * high); decided(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return time.Duration(float64(elapsed) * high)
}
