package firmwaresim

import (
	"math"
	"math/rand/v2"
)

// A Reading is one row of a pump's sensors, rounded to the resolution of each.
type Reading struct {
	Cycle       int     // from 0, one for each Next
	Flow        float64 // m³/h, 0 to 80
	Pressure    float64 // bar, 0 to 10
	Vibration   float64 // mm/s RMS, 0 to 30
	Temperature float64 // °C of the motor winding, −20 to 140
	Current     float64 // A, 0 to 60
	Wear        float64 // 0 new, 1 due for overhaul; known to the simulation only
}

// A Pump is a centrifugal pump that fills and rests in cycles.
//
// Its speed follows the demand with a lag; flow, head and current follow the
// affinity laws (Gülich, Centrifugal Pumps, 3rd ed., §3.4). The motor warms
// with the square of the current and is cooled by the flow, so it lags by tens
// of cycles. When the liquid's vapour pressure has risen far enough with that
// temperature, the pump cavitates, with hysteresis: flow and head drop,
// vibration rises. Every ramp crosses a critical speed, where vibration peaks.
// Wear takes from the flow, and adds to current and vibration; at 1 the pump
// is overhauled. Units differ in cycle length, load, critical speed and life.
//
// The same seed gives the same series. A Pump is not safe for concurrent use.
type Pump struct {
	rng *rand.Rand

	// The unit.
	period    float64 // cycles of a load cycle
	low, high float64 // speeds, 1 is nominal
	critical  float64 // speed
	life      float64 // cycles from new to overhaul at full load
	ambient   float64 // °C

	// Its state.
	cycle       int
	phase, last float64 // cycles into the load cycle, and its length
	top         float64 // speed this load cycle ramps to
	speed       float64
	drift       float64 // of the speed
	flow        float64
	temperature float64
	cavitating  bool
	cavitation  float64 // 0 to 1
	wear        float64
}

// NewPump returns pump number i of a simulation. It has been running for a
// while: warm, and worn a little.
func NewPump(seed uint64, i int) *Pump {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	between := func(a, b float64) float64 { return a + (b-a)*rng.Float64() }
	p := &Pump{
		rng:      rng,
		period:   between(36, 60),
		low:      between(0.32, 0.42),
		high:     between(0.90, 0.98),
		critical: between(0.60, 0.70),
		life:     between(2500, 5000),
		ambient:  between(15, 24),
		wear:     between(0, 0.5),
	}
	p.speed, p.temperature = p.low, p.ambient+10
	p.begin()
	p.phase = between(0, p.last)
	for range 200 {
		p.step()
	}
	p.cycle = 0
	return p
}

// begin starts a load cycle: about as long as the others, and one in five
// fills at reduced speed.
func (p *Pump) begin() {
	p.phase = 0
	p.last = p.period + 2*p.rng.Float64() - 1
	p.top = p.high + 0.02*p.rng.NormFloat64()
	if p.rng.IntN(5) == 0 {
		p.top = p.high - 0.16
	}
}

// demand is the speed asked for: rest, ramp, fill, ramp, rest.
func (p *Pump) demand() float64 {
	const up, full, down, rest = 0.25, 0.40, 0.78, 0.93 // parts of the load cycle
	x := p.phase / p.last
	switch {
	case x < up || x >= rest:
		return p.low
	case x < full:
		return p.low + (p.top-p.low)*(x-up)/(full-up)
	case x < down:
		return p.top
	}
	return p.top - (p.top-p.low)*(x-down)/(rest-down)
}

// step advances one cycle.
func (p *Pump) step() {
	if p.phase++; p.phase >= p.last {
		p.begin()
	}
	p.drift = 0.9*p.drift + 0.003*p.rng.NormFloat64()
	p.speed += (p.demand() + p.drift - p.speed) / 2.5
	s := p.speed

	flow := 62 * s * (1 - 0.12*p.wear) * (1 - 0.22*p.cavitation)
	p.flow += (flow - p.flow) / 1.5

	heating := 0.0039 * p.current() * p.current()
	cooling := 0.018 + 0.0006*p.flow
	p.temperature += heating - cooling*(p.temperature-p.ambient)

	// Net positive suction head, available and required, m.
	available := 6.6 - 0.9*math.Exp((p.temperature-60)/12)
	required := 1.5 + 4.2*(p.flow/60)*(p.flow/60)*(1+0.2*p.wear)
	switch margin := available - required; {
	case margin < 0:
		p.cavitating = true
	case margin > 1.2:
		p.cavitating = false
	}
	target := 0.0
	if p.cavitating {
		target = 1
	}
	p.cavitation += (target - p.cavitation) / 2

	p.wear += (0.2 + 0.8*s*s*s + p.cavitation) / p.life
	if p.wear >= 1 {
		p.wear = 0 // overhauled
	}
	p.cycle++
}

// current of the motor, A.
func (p *Pump) current() float64 {
	s := p.speed
	return 4 + 3*s + 21*s*s*s*(1+0.15*p.wear)
}

// vibration of the bearing, mm/s.
func (p *Pump) vibration() float64 {
	s := p.speed
	off := (s - p.critical) / 0.05
	worn := max(0, p.wear-0.7)
	return 0.5 + 1.5*s*s + 3.4/(1+off*off) + 2.4*p.cavitation + 1.2*p.wear*s + 12*worn*worn
}

// Next advances the pump by one cycle and reads its sensors.
func (p *Pump) Next() Reading {
	p.step()
	s := p.speed
	noise := func(sd float64) float64 { return sd * p.rng.NormFloat64() }
	head := 0.3 + 6.6*s*s - 0.0008*p.flow*p.flow - 0.5*p.cavitation*s
	return Reading{
		Cycle:       p.cycle - 1,
		Flow:        round(max(0, p.flow*(1+noise(0.006))), 100),
		Pressure:    round(max(0, head+noise(0.02)), 1000),
		Vibration:   round(max(0, p.vibration()*(1+noise(0.025))), 1000),
		Temperature: round(p.temperature+noise(0.12), 100),
		Current:     round(max(0, p.current()*(1+noise(0.006))), 100),
		Wear:        round(p.wear, 1e5),
	}
}

// round rounds to 1/n.
func round(x, n float64) float64 { return math.Round(x*n) / n }
