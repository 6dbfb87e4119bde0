package predictor

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// FuzzOpen overwrites four bytes of a tensor and one size of a valid model:
// Open refuses it or the model predicts, and what its kernel gives is finite.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(0), uint16(0), uint32(0), uint8(0), 12)
	f.Add(uint8(1), uint16(4), uint32(0x7f000000), uint8(0), 12) // a huge scale
	f.Add(uint8(1), uint16(0), uint32(0x7fc00000), uint8(0), 12) // NaN
	f.Add(uint8(9), uint16(8), uint32(0xff7fffff), uint8(0), 12)
	f.Add(uint8(0), uint16(3), uint32(0x80808080), uint8(0), 12)
	f.Add(uint8(2), uint16(3), uint32(1), uint8(1), 1<<30)
	f.Add(uint8(2), uint16(3), uint32(1), uint8(2), -1)
	f.Add(uint8(2), uint16(3), uint32(1), uint8(3), 257)
	f.Add(uint8(2), uint16(3), uint32(1), uint8(4), 0)
	fix := newFixture(f, lastState(), 3, artifact.StateWindow)
	for i := range fix.scaler.OutMean { // raw outputs are the kernel's
		fix.scaler.OutMean[i], fix.scaler.OutStd[i] = 0, 1
	}
	rows := []float32{-20*kernel.MaxInput + 200, 5, 0, 100, 0.5 * kernel.MaxInput, 0, 20 * kernel.MaxInput, -5, 0}
	f.Fuzz(func(t *testing.T, tensor uint8, at uint16, value uint32, what uint8, size int) {
		m := fix.artifact(t)
		data := m.Tensors[int(tensor)%len(m.Tensors)].Data
		binary.LittleEndian.PutUint32(data[int(at)%(len(data)/4)*4:], value)
		switch what % 5 {
		case 1:
			m.Graph.Layers[0].Units = size
		case 2:
			m.Schema.Window, m.Golden.Steps = size, size
		case 3:
			m.Graph.Features = size
		case 4:
			m.Schema.Horizon = size
		}
		p, err := Open(m)
		if err != nil || p.Window() != 3 {
			return
		}
		y := make([]float32, p.Outputs())
		if err := p.Predict(y, rows); err != nil {
			t.Fatal(err)
		}
		for i, v := range y {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("output %d is %v", i, v)
			}
		}
	})
}
