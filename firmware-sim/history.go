package firmwaresim

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// Columns of WriteCSV. Features are the sensors, in order.
var (
	Columns  = []string{"unit", "cycle", "flow", "pressure", "vibration", "temperature", "current", "wear"}
	Features = []string{"flow", "pressure", "vibration", "temperature", "current"}
)

// Values returns the sensors in the order of Features.
func (r Reading) Values() [5]float64 {
	return [5]float64{r.Flow, r.Pressure, r.Vibration, r.Temperature, r.Current}
}

// History returns rows readings of pump i of a simulation, from its start.
func History(seed uint64, i, rows int) []Reading {
	p := NewPump(seed, i)
	out := make([]Reading, rows)
	for n := range out {
		out[n] = p.Next()
	}
	return out
}

// WriteCSV writes a header of Columns and then rows readings of each unit, one
// unit after the other; unit i is pump i of the simulation.
func WriteCSV(w io.Writer, seed uint64, units []string, rows int) error {
	bw := bufio.NewWriterSize(w, 64<<10)
	if _, err := bw.WriteString(strings.Join(Columns, ",") + "\n"); err != nil {
		return err
	}
	var line []byte
	for i, unit := range units {
		p := NewPump(seed, i)
		for range rows {
			line = append(append(line[:0], unit...), ',')
			line = p.Next().appendCSV(line)
			if _, err := bw.Write(line); err != nil {
				return err
			}
		}
	}
	return bw.Flush()
}

func (r Reading) appendCSV(b []byte) []byte {
	b = strconv.AppendInt(b, int64(r.Cycle), 10)
	for _, v := range r.Values() {
		b = strconv.AppendFloat(append(b, ','), v, 'f', -1, 64)
	}
	b = strconv.AppendFloat(append(b, ','), r.Wear, 'f', -1, 64)
	return append(b, '\n')
}
