package quality

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var rollouts = flag.Int("rollouts", 400, "simulated rollouts of each kind")

// A simulated device makes a forecast each minute with both versions: errors of
// a heavy tail (Student's t with 3 degrees of freedom), correlated in time
// (0.9) and between the versions (0.8), scaled by what the device is.
type simulated struct {
	scale  float64
	ratio  float64
	noise  [2]float64
	silent bool
	Device
}

const (
	inTime    = 0.9
	inPairs   = 0.8
	deviation = 0.7  // of the scales' logarithm
	personal  = 0.05 // of each device's own ratio's logarithm
	offline   = 0.05
	broken    = 0.02
)

func simulate(rng *rand.Rand, n int, ratio float64) []simulated {
	fleet := make([]simulated, n)
	for i := range fleet {
		d := &fleet[i]
		d.scale = math.Exp(deviation * rng.NormFloat64())
		d.ratio = ratio * math.Exp(personal*rng.NormFloat64())
		if rng.Float64() < offline {
			d.silent, d.Lost = true, Silent
		}
		if rng.Float64() < broken {
			d.ratio *= math.Exp(9 * (2*rng.Float64() - 1))
		}
	}
	return fleet
}

func (d *simulated) minute(rng *rand.Rand) {
	if d.silent {
		return
	}
	common, own := rng.NormFloat64(), rng.NormFloat64()
	fresh := [2]float64{common, inPairs*common + math.Sqrt(1-inPairs*inPairs)*own}
	var chi float64
	for range 3 {
		x := rng.NormFloat64()
		chi += x * x / 3
	}
	for k := range d.noise {
		d.noise[k] = inTime*d.noise[k] + math.Sqrt(1-inTime*inTime)*fresh[k]
	}
	heavy := d.scale / math.Sqrt(chi)
	d.Pairs++
	d.SumA += heavy * math.Abs(d.noise[0])
	d.SumB += heavy * math.Abs(d.noise[1]) * d.ratio
}

// run looks each minute until it is decided.
func run(seed uint64, n int, ratio float64, p Params) (Verdict, int) {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	fleet := simulate(rng, n, ratio)
	devices := make([]Device, n)
	for minute := 1; ; minute++ {
		for i := range fleet {
			fleet[i].minute(rng)
			devices[i] = fleet[i].Device
		}
		v := Look(Stage{Elapsed: time.Duration(minute) * time.Minute, Look: minute, Silent: offline, Devices: devices}, p)
		if v.Decision != Wait {
			return v, minute
		}
	}
}

// TestErrorRates simulates whole stages. Long: task quality ROLLOUTS=2000.
func TestErrorRates(t *testing.T) {
	for _, tt := range []struct {
		name       string
		n          int
		ratio      float64
		p          Params
		pass, stop float64 // at most, shares
		decided    float64 // at least
	}{
		{"canary of 20 % worse", 100, 1.20, Canary(), 0.01, 1, 0.95},
		{"canary of an equal one", 100, 1.00, Canary(), 1, 0.02, 0.95},
		{"canary of 2 % worse", 100, 1.02, Canary(), 1, 0.02, 0.80},
		{"shadow of 20 % worse", 400, 1.20, Wide(), 0.01, 1, 1},
		{"shadow of an equal one", 400, 1.00, Wide(), 1, 0.02, 0.80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := map[Decision]int{}
			var minutes []int
			total := *rollouts * 100 / tt.n
			for seed := range uint64(total) {
				v, minute := run(seed, tt.n, tt.ratio, tt.p)
				count[v.Decision]++
				minutes = append(minutes, minute)
			}
			share := func(d Decision) float64 { return float64(count[d]) / float64(total) }
			slices.Sort(minutes)
			t.Logf("%d rollouts: %v, median %d min", total, count, minutes[total/2])
			// One more than the share allows is within chance at any number of seeds.
			if count[Pass] > int(tt.pass*float64(total))+1 || count[Stop] > int(tt.stop*float64(total))+1 || share(Pass)+share(Stop) < tt.decided {
				t.Errorf("of %d rollouts %v, want at most %.0f %% passed, %.0f %% stopped, at least %.0f %% decided",
					total, count, 100*tt.pass, 100*tt.stop, 100*tt.decided)
			}
		})
	}
}
