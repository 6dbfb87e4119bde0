// Package plan decides how a version spreads over a fleet: to which devices in
// which order, what is looked at before more of them get it, and what becomes
// of those that have it when it is no good.
//
//	             ┌──────────────────── paused (any stage; stops still count)
//	scheduled ─▶ preparing ─▶ running, stage 1 ─▶ … ─▶ stage n ─▶ watching ─▶ done
//	    │            │           │    ▲
//	    │            │           ▼    │ promote
//	    │            │          held ─┘
//	    └────────────┴───────────┴──▶ stopped, aborted or superseded: all back
//
// Everything here is a pure function of its arguments: Step is given the durable
// state and what happened, with the time, and returns the state to store. What
// devices are to do follows from that state alone (Role), so whoever stores it
// can be killed at any moment and go on.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// ErrPlan: a plan that cannot be carried out.
var ErrPlan = errors.New("invalid plan")

// What to do about a stage whose deadline passes without a verdict.
const (
	Widen   = "widen"   // as many devices again as the next stage has run it in shadow, once; then stop
	Abandon = "stop"    // take it back
	Hold    = "hold"    // wait for a person
	Proceed = "promote" // go on; recorded with the name of who started the rollout
)

// How a stage judges the quality.
const (
	Paired = "paired" // by the errors of both versions on the same inputs; enough devices decide, few leave it to a person
	Guard  = "guard"  // likewise, but only to stop: the stage before judged or guarded it
	Off    = "off"    // not at all: the other checks decide
)

// An Error is a mistake in a plan. It wraps ErrPlan.
type Error struct {
	Stage int    // from 0; -1: the plan itself
	Name  string // of the stage
	Key   string // of the plan or stage, as in a file; "" for the whole
	Text  string // what is wrong, and what to write instead
}

func (e *Error) Error() string {
	text := e.Text
	if e.Key != "" {
		text = e.Key + ": " + text
	}
	if e.Stage >= 0 {
		text = fmt.Sprintf("stage %d, %q: %s", e.Stage+1, e.Name, text)
	}
	return fmt.Sprintf("%s: %s", ErrPlan, text)
}

func (e *Error) Unwrap() error { return ErrPlan }

// A Plan says how a version spreads. Zero fields of it and of its stages mean
// the defaults that WithDefaults fills in.
type Plan struct {
	Name string `json:"name,omitempty" toml:"name" doc:"shadow-first, canary-first, shadow or direct, where there are no stages; empty for what fits the target"`
	// Group is the label whose values are judged apart, and get their share of
	// each stage.
	Group  string  `json:"group,omitempty" toml:"group" doc:"Label whose values are judged apart and get their share of each stage"`
	Stages []Stage `json:"stages,omitempty" toml:"stage" maxItems:"32" doc:"In order; the last one takes all devices"`

	// Seed makes the draw one that can be had again, in a rehearsal too.
	Seed uint64 `json:"seed,omitempty" toml:"seed" doc:"Of the order in which devices are drawn; 0: one at random, that is recorded"`

	Evidence string   `json:"evidence,omitempty" toml:"evidence" doc:"What the quality is judged by: paired, or did, which compares with the time before and with devices that keep theirs"`
	Before   Duration `json:"before,omitempty" toml:"before" doc:"With evidence did: how long the errors before the first stage are measured"`

	Every          Duration `json:"every,omitempty" toml:"every" doc:"Between two reports of a judged device"`
	Deadline       Duration `json:"deadline,omitempty" toml:"deadline" doc:"Of stages that name none"`
	Minimum        Duration `json:"minimum,omitempty" toml:"minimum" doc:"Of stages that name none"`
	Watch          Duration `json:"watch,omitempty" toml:"watch" doc:"How long judged devices go on reporting when all have the version; negative: not at all"`
	OnInconclusive string   `json:"on_inconclusive,omitempty" toml:"on_inconclusive" doc:"When a deadline passes without a verdict: widen, stop, hold or promote"`

	BytesPerSecond int64     `json:"bytes_per_second,omitempty" toml:"bytes_per_second" doc:"Downloads of a stage are spread so that all together stay below; 0: no limit"`
	Start          time.Time `json:"start,omitzero" toml:"start" doc:"Not before"`
	Window         *Window   `json:"window,omitempty" toml:"window" doc:"Part of the device's local day in which it may change versions, 01:00-05:00"`
}

// A Stage is a step of a plan: Devices of the target run the version, in all.
type Stage struct {
	Name    string `json:"name,omitempty" toml:"name" maxLength:"48"`
	Shadow  bool   `json:"shadow,omitempty" toml:"shadow" doc:"They run it beside the version in place, unheard"`
	Devices Amount `json:"devices" toml:"devices" doc:"A number, or a percentage of the target, in all"`

	Quality  string   `json:"quality,omitempty" toml:"quality" doc:"paired, guard or off"`
	Deadline Duration `json:"deadline,omitempty" toml:"deadline" doc:"When waiting for a verdict ends"`
	Minimum  Duration `json:"minimum,omitempty" toml:"minimum" doc:"How long the stage takes at least; negative: no time"`
	Hold     bool     `json:"hold,omitempty" toml:"hold" doc:"A person promotes after it passed"`

	MStop float64 `json:"m_stop,omitempty" toml:"m_stop" doc:"Margin of quality: certainly above stops"`
	MPass float64 `json:"m_pass,omitempty" toml:"m_pass" doc:"Margin of quality: certainly below passes"`

	Checks Checks `json:"checks,omitzero" toml:"checks"`
}

// Checks are limits beside the quality. nil is unchecked, but for MaxFailed.
type Checks struct {
	MaxFailed    *float64 `json:"max_failed,omitempty" toml:"max_failed" doc:"Share of devices that may fail on the version, or be silent at the deadline"`
	MaxRestarted *float64 `json:"max_restarted,omitempty" toml:"max_restarted" doc:"Share of devices whose agent may restart again and again"`
	MaxLatency   *float64 `json:"max_latency,omitempty" toml:"max_latency" doc:"Largest p99 of the prediction latency, as a multiple of that of the version in place"`
	MaxDrift     *float64 `json:"max_drift,omitempty" toml:"max_drift" doc:"Largest population stability index of an input against the version's training"`
	MaxErrorRate *float64 `json:"max_error_rate,omitempty" toml:"max_error_rate" doc:"Share of predictions that may fail"`
}

const (
	maxStages  = 32
	everyLeast = time.Second
	everyMost  = time.Hour
	longest    = 365 * 24 * time.Hour
	// driftLeast is the shortest deadline of a stage that limits the drift.
	driftLeast = 2 * time.Hour
	// MostSeed is the largest Seed: documents hold integers below 2^53.
	MostSeed = 1<<53 - 1
	// shadowLeast is how many devices a shadow has at least, where there are so many.
	shadowLeast, shadowPercent = 1000, 10
	// canaryLeast is more than quality.MinJudged, so that a quarter of them may be
	// silent without the stage staying undecided.
	canaryLeast               = 40
	canaryMost, canaryPercent = 100, 1
	defaultFailed             = 0.05
	defaultGroup              = "hw"
)

// ShadowFirst is the plan for fleets of enough devices: judged where nobody
// hears it, then on a canary for what only activation shows, then everywhere.
func ShadowFirst(total int) Plan {
	shadow := min(max(shadowLeast, ceilPercent(shadowPercent, total)), total)
	canary := min(max(canaryPercentOf(total), canaryLeast), shadow)
	return Plan{Name: "shadow-first", Stages: []Stage{
		{Name: "shadow", Shadow: true, Devices: Amount{Count: shadow}, Quality: Paired},
		{Name: "canary", Devices: Amount{Count: canary}, Quality: Guard},
		{Devices: Amount{Percent: 10}, Quality: Guard},
		{Devices: Amount{Percent: 100}, Quality: Guard},
	}}
}

// CanaryFirst is the plan without a shadow: 1 %, 10 %, all.
func CanaryFirst(total int) Plan {
	return Plan{Name: "canary-first", Stages: []Stage{
		{Name: "canary", Devices: Amount{Count: min(max(canaryPercentOf(total), canaryLeast), total)}, Quality: Paired},
		{Devices: Amount{Percent: 10}, Quality: Paired},
		{Devices: Amount{Percent: 100}, Quality: Guard},
	}}
}

// ShadowOnly runs a version in shadow on all of the target until a person
// promotes it to a canary and then all.
func ShadowOnly(total int) Plan {
	return Plan{Name: "shadow", Stages: []Stage{
		{Name: "shadow", Shadow: true, Devices: Amount{Percent: 100}, Quality: Paired, Hold: true},
		{Name: "canary", Devices: Amount{Count: max(1, min(total, max(canaryPercentOf(total), canaryLeast)))}, Quality: Guard},
		{Devices: Amount{Percent: 100}, Quality: Guard},
	}, OnInconclusive: Hold}
}

func canaryPercentOf(total int) int { return min(ceilPercent(canaryPercent, total), canaryMost) }

func ceilPercent(percent float64, total int) int {
	return int(math.Ceil(percent*float64(total)/100 - 1e-9))
}

// WithDefaults fills in what p leaves open, for a target of so many devices.
func (p Plan) WithDefaults() Plan {
	p.Stages = slices.Clone(p.Stages)
	if p.Group == "" {
		p.Group = defaultGroup
	}
	if p.Every == 0 {
		p.Every = Duration(time.Minute)
	}
	if p.did() {
		p.withoutPairs()
	}
	if p.OnInconclusive == "" {
		p.OnInconclusive = Widen
	}
	if p.Watch == 0 {
		p.Watch = Duration(24 * time.Hour)
	}
	judged := false
	for i := range p.Stages {
		s := &p.Stages[i]
		if s.Quality == "" {
			s.Quality = Paired
			if judged {
				s.Quality = Guard
			}
		}
		judged = s.Quality != Off && (judged || s.Quality == Paired && (s.Shadow || i > 0))
		if s.Name == "" {
			s.Name = s.Devices.Label()
			if s.Shadow {
				s.Name = "shadow"
			}
		}
		s.Minimum = max(cmp.Or(s.Minimum, p.Minimum, Duration(5*time.Minute)), 0)
		wait := 8 * time.Hour
		if p.Window != nil {
			wait += p.Window.Wait()
		}
		s.Deadline = cmp.Or(s.Deadline, p.Deadline, Duration(wait))
		if s.Checks.MaxFailed == nil {
			limit := defaultFailed
			s.Checks.MaxFailed = &limit
		}
	}
	return p
}

// Check reports what is wrong with a plan that has its defaults, as an *Error.
func (p Plan) Check() error {
	wrong := func(key, format string, args ...any) error {
		return &Error{Stage: -1, Key: key, Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(p.Stages) == 0:
		return wrong("", "it has no stage")
	case len(p.Stages) > maxStages:
		return wrong("stage", "%d of them; at most %d", len(p.Stages), maxStages)
	case time.Duration(p.Every) < everyLeast || time.Duration(p.Every) > everyMost:
		return wrong("every", "%s is outside %s to %s", p.Every, Duration(everyLeast), Duration(everyMost))
	case time.Duration(p.Watch) > longest:
		return wrong("watch", "%s is longer than a year", p.Watch)
	case !slices.Contains([]string{Widen, Abandon, Hold, Proceed}, p.OnInconclusive):
		return wrong("on_inconclusive", "%q is none of %s, %s, %s and %s", p.OnInconclusive, Widen, Abandon, Hold, Proceed)
	case p.Seed > MostSeed:
		return wrong("seed", "%d is above %d", p.Seed, uint64(MostSeed))
	case p.BytesPerSecond < 0:
		return wrong("bytes_per_second", "%d is below 0", p.BytesPerSecond)
	}
	for i, s := range p.Stages {
		key, text := s.check(p, i)
		if text == "" {
			key, text = s.after(p.Stages[:i])
		}
		if text != "" {
			return &Error{Stage: i, Name: s.Name, Key: key, Text: text}
		}
	}
	if err := p.checkEvidence(); err != nil {
		return err
	}
	last := len(p.Stages) - 1
	if s := p.Stages[last]; s.Shadow || s.Devices != (Amount{Percent: 100}) {
		return &Error{Stage: last, Name: s.Name, Key: "devices", Text: "the last stage must take all devices, which is 100%"}
	}
	return nil
}

// check returns what is wrong with stage i of p, and where.
func (s Stage) check(p Plan, i int) (key, text string) {
	switch {
	case s.Shadow && i > 0:
		return "shadow", "only the first stage can be a shadow"
	case s.Shadow && s.Quality == Off:
		return "quality", "a shadow exists to be judged; it cannot be off"
	case s.Devices.Count < 0 || s.Devices.Count == 0 && !(s.Devices.Percent > 0 && s.Devices.Percent <= 100):
		return "devices", "want a number from 1, or a percentage above 0 to 100"
	case !slices.Contains([]string{Paired, Guard, Off}, s.Quality):
		return "quality", fmt.Sprintf("%q is none of %s, %s and %s", s.Quality, Paired, Guard, Off)
	case s.Quality == Guard && (i == 0 || p.Stages[i-1].Quality == Off):
		return "quality", fmt.Sprintf("the stage before judges nothing that could be guarded; use %s or %s", Paired, Off)
	case s.Deadline <= 0 || time.Duration(s.Deadline) > longest:
		return "deadline", fmt.Sprintf("%s is outside 1s to a year", s.Deadline)
	case s.Minimum > s.Deadline:
		return "minimum", fmt.Sprintf("%s is longer than the deadline, %s", s.Minimum, s.Deadline)
	case !margin(s.MStop):
		return "m_stop", "a margin is above 1; 1.03 is 3 % worse"
	case !margin(s.MPass):
		return "m_pass", "a margin is above 1; 1.05 is 5 % worse"
	}
	c := s.Checks
	if c.MaxLatency != nil && s.Quality == Off {
		return "checks.max_latency", fmt.Sprintf("devices count latency only while they are judged, so with quality %s there is none to limit; use %s or %s, or leave the limit out", Off, Paired, Guard)
	}
	switch {
	case c.MaxDrift == nil:
	case s.Shadow:
		return "checks.max_drift", "in shadow devices count the inputs of the version in place alone; limit it in a later stage"
	case time.Duration(s.Deadline) < driftLeast:
		return "checks.max_drift", fmt.Sprintf("devices tell their inputs once an hour, so a deadline of %s is too short; it takes %s", s.Deadline, Duration(driftLeast))
	}
	for _, c := range []struct {
		name  string
		limit *float64
		most  float64
	}{
		{"max_failed", c.MaxFailed, 1}, {"max_restarted", c.MaxRestarted, 1},
		{"max_error_rate", c.MaxErrorRate, 1}, {"max_drift", c.MaxDrift, math.MaxFloat64}, {"max_latency", c.MaxLatency, math.MaxFloat64},
	} {
		if c.limit != nil && !(*c.limit >= 0 && *c.limit <= c.most) {
			return "checks." + c.name, fmt.Sprintf("%v is outside 0 to %v", *c.limit, c.most)
		}
	}
	return "", ""
}

// after returns what is wrong with a stage that comes after others, and where. How a
// number and a percentage compare depends on the target: see Sizes.
func (s Stage) after(others []Stage) (key, text string) {
	for i, o := range others {
		fewer := s.Devices.Count > 0 && s.Devices.Count < o.Devices.Count || s.Devices.Percent > 0 && s.Devices.Percent < o.Devices.Percent
		switch {
		case o.Name == s.Name:
			return "name", fmt.Sprintf("stage %d has that name too; reports tell stages apart by theirs", i+1)
		case fewer && !o.Shadow:
			return "devices", fmt.Sprintf("%s, and stage %d has %s already; stages grow", s.Devices.Label(), i+1, o.Devices.Label())
		}
	}
	return "", ""
}

// margin reports whether m is a margin, or none.
func margin(m float64) bool { return m == 0 || m > 1 && m <= math.MaxFloat64 }

// Longest is the longest that a device is judged, should the control plane not
// tell it otherwise: it does so half way.
func (p Plan) Longest() time.Duration {
	d := time.Duration(max(p.Watch, 0))
	for _, s := range p.Stages {
		d += time.Duration(s.Deadline)
	}
	return 2 * d
}

// Sizes returns how many of total devices each stage has.
func (p Plan) Sizes(total int) []int {
	sizes := make([]int, len(p.Stages))
	for i, s := range p.Stages {
		sizes[i] = s.Devices.Of(total)
		if i > 0 && !p.Stages[i-1].Shadow {
			sizes[i] = max(sizes[i], sizes[i-1])
		}
	}
	return sizes
}

// JudgedMost returns how many of total devices report pairs at most, if no stage
// widens.
func (p Plan) JudgedMost(total int) (n int) {
	for i, size := range p.Sizes(total) {
		if p.Stages[i].Quality == Paired && !p.did() {
			n = max(n, size)
		}
	}
	return n
}

// params are the settings of the quality check at stage i of so many devices.
func (p Plan) params(i int, epsilon float64) quality.Params {
	s := p.Stages[i]
	q := quality.Wide()
	if s.Quality == Paired && !s.Shadow && (i == 0 || i == 1 && p.Stages[0].Shadow) {
		q = quality.Canary()
	}
	if s.MStop > 0 {
		q.MStop = s.MStop
	}
	if s.MPass > 0 {
		q.MPass = s.MPass
		q.Rho = 1.25 / (math.Log(q.MPass) * math.Log(q.MPass))
	}
	q.Minimum, q.Deadline, q.Epsilon = time.Duration(s.Minimum), time.Duration(s.Deadline), epsilon
	if s.Quality == Guard {
		q = q.Guarding(q.Minimum)
	}
	return q
}

// An Amount is a number of devices, or a percentage of them. In text, 100 or
// 10%.
type Amount struct {
	Count   int
	Percent float64
}

// Of returns how many of total devices that is: at least one.
func (a Amount) Of(total int) int {
	if a.Count > 0 {
		return min(a.Count, total)
	}
	return min(max(ceilPercent(a.Percent, total), 1), total)
}

func (a Amount) String() string {
	if a.Count > 0 {
		return strconv.Itoa(a.Count)
	}
	return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
}

// Label names a stage of that many devices.
func (a Amount) Label() string {
	switch {
	case a.Count == 1:
		return "1 device"
	case a.Count > 0:
		return strconv.Itoa(a.Count) + " devices"
	}
	return strconv.FormatFloat(a.Percent, 'f', -1, 64) + " %"
}

func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (a *Amount) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	*a = Amount{}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return fmt.Errorf("%w: %q is no percentage above 0 to 100", ErrPlan, b)
		}
		a.Percent = v
		return nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 1 {
		return fmt.Errorf("%w: %q is no number of devices; write 100 or 10%%", ErrPlan, b)
	}
	a.Count = v
	return nil
}

// A Duration is one that people write.
type Duration = protocol.Duration

// A Window is a part of a device's local day; in text 22:30-05:00, or with the
// days on which it begins, 22:30-05:00 sat,sun.
type Window protocol.Window

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w Window) String() string {
	s := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
	var on []string
	for i, day := range days {
		if w.Days>>i&1 == 1 {
			on = append(on, day)
		}
	}
	if len(on) > 0 {
		s += " " + strings.Join(on, ",")
	}
	return s
}

// Wait is how long a device waits at most until the window begins: a day, or as many
// as lie between two on which it does.
func (w Window) Wait() time.Duration {
	const week = 7
	longest, since := 1, 0
	for day := range 2 * week {
		since++
		if w.Days>>(day%week)&1 == 1 {
			if day >= week { // the days before the first one were counted short
				longest = max(longest, since)
			}
			since = 0
		}
	}
	return time.Duration(longest) * 24 * time.Hour
}

func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (w *Window) UnmarshalText(b []byte) error {
	wrong := fmt.Errorf("%w: %q is no window; write 22:30-05:00, or 22:30-05:00 sat,sun", ErrPlan, b)
	span, on, has := strings.Cut(strings.TrimSpace(string(b)), " ")
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return wrong
	}
	*w = Window{}
	for _, c := range []struct {
		text string
		into *uint16
	}{{from, &w.From}, {to, &w.To}} {
		at, err := time.Parse("15:04", c.text)
		if err != nil {
			return wrong
		}
		*c.into = uint16(at.Hour()*60 + at.Minute())
	}
	if !has {
		return nil
	}
	for day := range strings.SplitSeq(strings.TrimSpace(on), ",") {
		i := slices.Index(days, strings.TrimSpace(day))
		if i < 0 {
			return wrong
		}
		w.Days |= 1 << i
	}
	return nil
}
