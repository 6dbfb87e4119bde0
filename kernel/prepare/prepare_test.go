package prepare

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// number is one between −100 and 100, without what FMA would round otherwise.
func number(r *rand.Rand) float32 { return (r.Float32() - 0.5) * 200 }

// scaler of n inputs and 2 outputs, those of ones having mean 0 and factor 1.
func scaler(r *rand.Rand, n int, ones ...int) kernel.Scaler {
	s := kernel.Scaler{OutMean: []float32{3, -7}, OutStd: []float32{2, 0.25}}
	for i := range n {
		mean, std := number(r), float32(r.Float32()*3)+0.1
		if slices.Contains(ones, i) {
			mean, std = 0, 1
		}
		s.Mean, s.Std, s.Inv = append(s.Mean, mean), append(s.Std, std), append(s.Inv, 1/std)
	}
	return s
}

// configs are one for every option alone and together. Columns are 4: two numbers,
// a category of 3 texts unless none is asked for, and a number.
func configs() map[string]Config {
	r := rand.New(rand.NewPCG(5, 6))
	all := map[string]Config{
		"plain":             {Columns: 4, Scaler: scaler(r, 4)},
		"anchor":            {Columns: 4, Scaler: scaler(r, 4)},
		"stream":            {Columns: 4, Scaler: scaler(r, 4), Stream: true},
		"calendar":          {Columns: 4, Scaler: scaler(r, 10, 4, 5, 6, 7, 8, 9), Calendar: allCycles, PeriodMS: 3600_000},
		"category":          {Columns: 4, Scaler: scaler(r, 7, 2, 3, 4, 5), Categories: []Category{{2, 3}}},
		"regimes":           {Columns: 4, Scaler: scaler(r, 4)},
		"all":               {Columns: 4, Scaler: scaler(r, 9, 2, 3, 4, 5, 7, 8), Categories: []Category{{2, 3}}, Calendar: []Cycle{Weekday}, PeriodMS: 1000},
		"anchored category": {Columns: 4, Scaler: scaler(r, 7, 2, 3, 4, 5), Categories: []Category{{2, 3}}},
	}
	for _, name := range []string{"anchor", "stream", "anchored category"} {
		c := all[name]
		c.Scaler.Anchor = []int{3, -1}
		all[name] = c
	}
	for _, by := range []struct {
		name   string
		inputs []int
	}{{"regimes", []int{1, 3}}, {"all", []int{0, 6}}} {
		name, inputs, c := by.name, by.inputs, all[by.name]
		const n = 5
		g := &Regimes{Inputs: inputs}
		for range n {
			s := scaler(r, len(c.Scaler.Mean))
			g.Mean, g.Inv = append(g.Mean, s.Mean...), append(g.Inv, s.Inv...)
			for range inputs {
				g.Centers = append(g.Centers, number(r))
			}
		}
		g.Inv[1] = 0 // constant in that regime
		c.Regimes = g
		all[name] = c
	}
	return all
}

func plan(t testing.TB, c Config) *Plan {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rows are n random ones as a client gives them.
func rows(r *rand.Rand, n int) (rows []float32) {
	for range n {
		rows = append(rows, number(r), number(r), float32(r.IntN(5)-1), number(r))
	}
	return rows
}

// oracle prepares extended rows as the comments say, value by value.
func oracle(c Config, raw []float32) (out []float32) {
	width := c.Columns + 2*len(c.Calendar)
	dictionary := map[int]int{}
	for _, k := range c.Categories {
		dictionary[k.Column] = k.Values
	}
	last := raw[len(raw)-width:]
	for ; len(raw) > 0; raw = raw[width:] {
		var row []float32
		anchor := map[int]float32{}
		for f, v := range raw[:width] {
			n, text := dictionary[f]
			if !text {
				if slices.Contains(c.Scaler.Anchor, f) && !c.Stream {
					anchor[len(row)] = last[f]
				}
				row = append(row, v)
				continue
			}
			hot := n
			for k := range n {
				if v == float32(k) {
					hot = k
				}
			}
			for k := range n + 1 {
				row = append(row, map[bool]float32{true: 1}[k == hot])
			}
		}
		mean, inv := slices.Clone(c.Scaler.Mean), slices.Clone(c.Scaler.Inv)
		if g := c.Regimes; g != nil {
			best := 0
			var distances []float32
			for k := range g.Len() {
				d := float32(0)
				for j, i := range g.Inputs {
					x := float32(row[i]-g.Centers[k*len(g.Inputs)+j]) * c.Scaler.Inv[i]
					d += float32(x * x)
				}
				if distances = append(distances, d); d < distances[best] {
					best = k
				}
			}
			mean, inv = g.Mean[best*len(row):][:len(row)], g.Inv[best*len(row):][:len(row)]
		}
		for i, v := range row {
			m := mean[i]
			if a, ok := anchor[i]; ok {
				m = a
			}
			out = append(out, float32(v-m)*inv[i])
		}
	}
	return out
}

func equalBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v (%#x), want %v (%#x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// digests are those of what each config makes of 2,000 random windows: the bits of
// every CPU.
var digests = map[string]string{
	"plain":             "c5a32d5a7d5b80be46d582ce6caea481",
	"anchor":            "9bed924a5c8d8af4856bc05df920554e",
	"stream":            "71260325e82056da77feb6a0132d9e95",
	"calendar":          "ec846cbd112cf86db3dcffe48de7816b",
	"category":          "25fa41b52a24272e71e8eb315729dbb4",
	"anchored category": "96bf777868365cd5637c929df9f5f118",
	"regimes":           "98f3e9cf79cd2b097eb4798d19e0cd32",
	"all":               "7e002bd7644836f0c28f1df1a81b11be",
}

func TestInIsWhatTheCommentsSay(t *testing.T) {
	for name, c := range configs() {
		t.Run(name, func(t *testing.T) {
			p, r, h := plan(t, c), rand.New(rand.NewPCG(7, 8)), sha256.New()
			for range 2000 {
				raw, err := p.Extend(rows(r, 3), r.Int64N(MaxTime))
				if err != nil {
					t.Fatal(err)
				}
				x := make([]float32, 3*p.Inputs())
				if err := p.In(x, raw); err != nil {
					t.Fatal(err)
				}
				equalBits(t, name, x, oracle(c, raw))
				if err := binary.Write(h, binary.LittleEndian, x); err != nil {
					t.Fatal(err)
				}
				if len(c.Categories) == 0 {
					if err := p.In(raw, raw); err != nil {
						t.Fatal(err)
					}
					equalBits(t, name+" in place", raw, x)
				}
			}
			if got := hex.EncodeToString(h.Sum(nil)[:16]); got != digests[name] {
				t.Errorf("digest %q: %q", name, got)
			}
		})
	}
}

func TestOutUndoesTheScaling(t *testing.T) {
	for name, c := range configs() {
		p := plan(t, c)
		raw, err := p.Extend(rows(rand.New(rand.NewPCG(1, 1)), 2), 5)
		if err != nil {
			t.Fatal(err)
		}
		y := []float32{0.5, -3}
		if err := p.Out(y, y, raw[p.Width():]); err != nil {
			t.Fatal(err)
		}
		mean := c.Scaler.OutMean[0]
		if len(c.Scaler.Anchor) > 0 {
			mean = raw[p.Width()+c.Scaler.Anchor[0]]
		}
		equalBits(t, name, y, []float32{float32(0.5*c.Scaler.OutStd[0]) + mean, float32(-3*c.Scaler.OutStd[1]) + c.Scaler.OutMean[1]})
	}
}

func TestInRefusesByColumn(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, c := range configs() {
		p, r := plan(t, c), rand.New(rand.NewPCG(9, 9))
		for column := range 4 {
			for v, want := range map[float32]error{nan: kernel.ErrNonFinite, inf: kernel.ErrNonFinite, 3e38: kernel.ErrRange, -3e38: kernel.ErrRange} {
				raw, err := p.Extend(rows(r, 2), 5)
				if err != nil {
					t.Fatal(err)
				}
				raw[p.Width()+column] = v
				err = p.In(make([]float32, 2*p.Inputs()), raw)
				if p.values(column) > 0 { // a text that is not known
					if err != nil {
						t.Errorf("%s: category %v: %v", name, v, err)
					}
					continue
				}
				var bad *kernel.ValueError
				if !errors.As(err, &bad) || !errors.Is(err, want) || bad.Feature != column {
					if c.Regimes != nil && bad == nil && errors.Is(want, kernel.ErrRange) { // constant in that regime
						continue
					}
					t.Errorf("%s: column %d of %v: %v, want %v", name, column, v, err, want)
				}
			}
		}
	}
}

func TestUnknownTextsShareAnInput(t *testing.T) {
	c := configs()["category"]
	p := plan(t, c)
	x := make([]float32, 7)
	for _, v := range []float32{-1, 3, 0.5, 2.0000002, 1e30, float32(math.NaN()), float32(math.Inf(1))} {
		if err := p.In(x, []float32{0, 0, v, 0}); err != nil {
			t.Fatal(err)
		}
		equalBits(t, fmt.Sprint(v), x[2:6], []float32{0, 0, 0, 1})
	}
	if err := p.In(x, []float32{0, 0, 2, 0}); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "the last text", x[2:6], []float32{0, 0, 1, 0})
}

func TestExtendCountsBackFromTheLastRow(t *testing.T) {
	p := plan(t, configs()["calendar"])
	const ms = 1_767_225_600_000
	got, err := p.Extend(make([]float32, 8), ms)
	if err != nil {
		t.Fatal(err)
	}
	var want []float32
	for _, t := range []int64{ms - 3600_000, ms} {
		want = append(want, 0, 0, 0, 0)
		for _, c := range allCycles {
			sin, cos := c.At(t)
			want = append(want, sin, cos)
		}
	}
	equalBits(t, "extended", got, want)
	for _, ms := range []int64{MaxTime + 1, -MaxTime, math.MinInt64 + 1<<40} { // the first row is before the limit
		if _, err := p.Extend(make([]float32, 8), ms); !errors.Is(err, ErrTime) {
			t.Errorf("Extend at %d = %v, want ErrTime", ms, err)
		}
	}
	if _, err := p.Extend(make([]float32, 7), ms); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Extend of 7 values = %v, want ErrShape", err)
	}
}

func TestInRefusesShapes(t *testing.T) {
	p := plan(t, configs()["all"])
	for _, n := range [][2]int{{0, 0}, {9, 5}, {9, 7}, {18, 6}, {9, 12}} {
		if err := p.In(make([]float32, n[0]), make([]float32, n[1])); !errors.Is(err, kernel.ErrShape) {
			t.Errorf("In of %d values from %d = %v, want ErrShape", n[0], n[1], err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, of string
		break_   func(*Config)
		want     string
	}{
		{"columns", "plain", func(c *Config) { c.Columns = 0 }, "0 columns"},
		{"scaler of another width", "plain", func(c *Config) { c.Columns = 3 }, "a scaler of 4 inputs"},
		{"empty dictionary", "category", func(c *Config) { c.Categories = []Category{{2, 0}} }, "0 texts"},
		{"long dictionary", "category", func(c *Config) { c.Categories = []Category{{2, MaxValues + 1}} }, "65 texts"},
		{"category twice", "category", func(c *Config) { c.Categories = []Category{{2, 3}, {2, 3}} }, "each once"},
		{"category that is no column", "category", func(c *Config) { c.Categories = []Category{{4, 3}} }, "each once"},
		{"unordered calendar", "calendar", func(c *Config) { c.Calendar = []Cycle{Weekday, Hour} }, "ascending"},
		{"unknown cycle", "calendar", func(c *Config) { c.Calendar = []Cycle{7} }, "ascending"},
		{"no period", "calendar", func(c *Config) { c.PeriodMS = 0 }, "a period of 0"},
		{"long period", "calendar", func(c *Config) { c.PeriodMS = MaxPeriod + 1 }, "a period of"},
		{"period without calendar", "plain", func(c *Config) { c.PeriodMS = 1 }, "a period of 1"},
		{"inputs", "plain", func(c *Config) {
			c.Columns = kernel.MaxFeatures
			for i := range c.Columns {
				c.Categories = append(c.Categories, Category{i, 1})
			}
		}, "512 inputs"},
		{"anchor on a category", "anchored category", func(c *Config) { c.Scaler.Anchor = []int{2, -1} }, "anchored to column 2"},
		{"anchor on the calendar", "calendar", func(c *Config) { c.Scaler.Anchor = []int{-1, 4} }, "anchored to column 4"},
		{"anchor and regimes", "regimes", func(c *Config) { c.Scaler.Anchor = []int{-1, 0} }, "an anchor and regimes"},
		{"no regime", "regimes", func(c *Config) { c.Regimes = &Regimes{Inputs: []int{0}} }, "0 regimes"},
		{"regimes by nothing", "regimes", func(c *Config) { c.Regimes = &Regimes{Centers: []float32{1}} }, "by 0 of 4 inputs"},
		{"many regimes", "regimes", func(c *Config) { c.Regimes = &Regimes{Inputs: []int{0}, Centers: make([]float32, MaxRegimes+1)} }, "65 regimes"},
		{"half a centre", "regimes", func(c *Config) { c.Regimes.Centers = c.Regimes.Centers[1:] }, "values of their centres"},
		{"short means", "regimes", func(c *Config) { c.Regimes.Mean = c.Regimes.Mean[1:] }, "19 means"},
		{"regimes by the calendar", "all", func(c *Config) { c.Regimes.Inputs = []int{0, 7} }, "numbers that a client gives"},
		{"regimes by a category", "all", func(c *Config) { c.Regimes.Inputs = []int{0, 3} }, "numbers that a client gives"},
		{"regimes by one twice", "regimes", func(c *Config) { c.Regimes.Inputs = []int{1, 1} }, "each once"},
		{"infinite centre", "regimes", func(c *Config) { c.Regimes.Centers[3] = float32(math.Inf(1)) }, "the value +Inf"},
		{"negative factor", "regimes", func(c *Config) { c.Regimes.Inv[3] = -1 }, "the factor -1"},
	} {
		c := configs()[tt.of]
		tt.break_(&c)
		if _, err := New(c); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: New = %v, want ErrPlan with %q", tt.name, err, tt.want)
		}
	}
	c := configs()["plain"]
	c.Scaler.Inv[0] = float32(math.NaN())
	if _, err := New(c); !errors.Is(err, kernel.ErrNonFinite) {
		t.Errorf("New with a NaN = %v, want ErrNonFinite", err)
	}
}

func TestInAllocatesNothing(t *testing.T) {
	for name, c := range configs() {
		p := plan(t, c)
		raw, err := p.Extend(rows(rand.New(rand.NewPCG(1, 1)), 3), 5)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, 3*p.Inputs())
		if n := testing.AllocsPerRun(10, func() { err = p.In(x, raw) }); n != 0 || err != nil {
			t.Errorf("%s: In allocates %v times, %v", name, n, err)
		}
	}
}

func TestTheFirstOfEquallyNearRegimes(t *testing.T) {
	c := configs()["regimes"]
	c.Regimes.Inputs, c.Regimes.Centers = []int{1}, []float32{9, 2, 4, 4, 9}
	p := plan(t, c)
	for v, want := range map[float32]int{3: 1, 4: 2, 100: 0, -5: 1} {
		if got := p.Regime([]float32{0, v, 0, 0}); got != want {
			t.Errorf("a row at %v is in regime %d, want %d", v, got, want)
		}
	}
}
