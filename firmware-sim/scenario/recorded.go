package scenario

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

// A Pair are the errors of the version in place and of the candidate on the same
// input, in any unit, of either sign.
type Pair struct{ A, B float64 }

const (
	maxRecorded = 1 << 24 // pairs of a scenario: 256 MiB
	maxError    = 1e18    // so that ratios and squares stay numbers
)

// ReadErrors reads the recorded errors of two versions: CSV with the columns device, a
// and b in any order, one comparison with the truth a row, the rows of a device in the
// order of time. It returns a series of each device, in the order in which they first
// come. ErrScenario with the line; errors of r.
func ReadErrors(r io.Reader) ([][]Pair, error) {
	rows := csv.NewReader(r)
	rows.ReuseRecord = true
	head, err := rows.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, readError(err)
	}
	device, a, b := slices.Index(head, "device"), slices.Index(head, "a"), slices.Index(head, "b")
	if device < 0 || a < 0 || b < 0 {
		return nil, fmt.Errorf("%w: line 1: the columns are %q; want device, a and b", ErrScenario, head)
	}
	var out [][]Pair
	index := map[string]int{}
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, readError(err)
		}
		line, _ := rows.FieldPos(0)
		if n == maxRecorded {
			return nil, fmt.Errorf("%w: line %d: more than %d rows; give fewer", ErrScenario, line, maxRecorded)
		}
		var p Pair
		for _, v := range []struct {
			to   *float64
			text string
		}{{&p.A, row[a]}, {&p.B, row[b]}} {
			if *v.to, err = strconv.ParseFloat(v.text, 64); err != nil || !usable(*v.to) {
				return nil, fmt.Errorf("%w: line %d: %q is not an error of a version; want a number up to %g", ErrScenario, line, v.text, maxError)
			}
		}
		i, known := index[row[device]]
		if !known {
			i = len(out)
			index[row[device]], out = i, append(out, nil)
		}
		out[i] = append(out[i], p)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no errors; want rows of device, a and b", ErrScenario)
	}
	return out, nil
}

// readError makes the text of a broken row the scenario's fault.
func readError(err error) error {
	if broken := (*csv.ParseError)(nil); errors.As(err, &broken) {
		return fmt.Errorf("%w: %w", ErrScenario, err)
	}
	return err
}

func usable(v float64) bool { return math.Abs(v) <= maxError } // NaN is not

// checkRecorded reports what is wrong with recorded errors.
func checkRecorded(series [][]Pair) error {
	total := 0
	for i, s := range series {
		if len(s) == 0 {
			return fmt.Errorf("series %d has no pair", i+1)
		}
		if total += len(s); total > maxRecorded {
			return fmt.Errorf("more than %d pairs", maxRecorded)
		}
		for _, p := range s {
			if !usable(p.A) || !usable(p.B) {
				return fmt.Errorf("series %d has an error that is not a number up to %g", i+1, maxError)
			}
		}
	}
	if series != nil && total == 0 {
		return errors.New("there are none")
	}
	return nil
}

// A tape plays recorded errors to the devices of a fleet.
type tape struct {
	series [][]Pair
	ends   []int // of the series, had they been put one behind the other
}

func newTape(series [][]Pair) *tape {
	t := &tape{series: series, ends: make([]int, len(series))}
	end := 0
	for i, s := range series {
		end += len(s)
		t.ends[i] = end
	}
	return t
}

// cue returns a series and a place in it, each pair of all series being as likely.
func (t *tape) cue(rng *rand.Rand) (series []Pair, at int) {
	k := rng.IntN(t.ends[len(t.ends)-1])
	i, _ := slices.BinarySearch(t.ends, k+1)
	return t.series[i], k - (t.ends[i] - len(t.series[i]))
}
