package config

import (
	"errors"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// pipelineFile is pipeline.toml: how devices feed a model by themselves.
type pipelineFile struct {
	Period      Duration `toml:"period"`       // time from one row to the next; required
	Tolerance   Duration `toml:"tolerance"`    // how old a value may be; the period by default
	Hold        Duration `toml:"hold"`         // how much longer a missing value is stood in for
	Gap         Duration `toml:"gap"`          // the window begins anew behind a longer one; 10 periods by default
	Stride      *uint32  `toml:"stride"`       // rows from one prediction to the next; 1 by default
	Output      string   `toml:"output"`       // topic of predictions
	MinInterval Duration `toml:"min_interval"` // least time between two messages of a stream

	Alarm *pipelineAlarm  `toml:"alarm"`
	Input []pipelineInput `toml:"input"`
}

type pipelineAlarm struct {
	Output uint32   `toml:"output"` // index of the output, from 0
	Raise  *float32 `toml:"raise"`  // required
	Clear  *float32 `toml:"clear"`  // required
}

type pipelineInput struct {
	Column  string `toml:"column"`  // a feature, or a target; required
	Topic   string `toml:"topic"`   // {device} is replaced, + names the stream
	Pointer string `toml:"pointer"` // JSON pointer
}

// LoadPipeline reads pipeline.toml at path for a model with schema s. Mistakes
// in it are of type *Error.
func LoadPipeline(path string, s artifact.Schema) (artifact.Pipeline, error) {
	var f pipelineFile
	doc, err := decode(path, &f)
	if err != nil {
		return artifact.Pipeline{}, err
	}
	if f.Period == 0 {
		return artifact.Pipeline{}, doc.errorf("period", "missing; write the time from one row to the next, such as \"1s\": that of the data the model was trained on")
	}
	if f.Tolerance == 0 {
		f.Tolerance = f.Period
	}
	if f.Gap == 0 {
		f.Gap = 10 * f.Period
	}
	p := artifact.Pipeline{Stride: 1, Output: f.Output}
	if f.Stride != nil {
		p.Stride = *f.Stride
	}
	for _, d := range []struct {
		key  string
		from Duration
		to   *uint32
	}{
		{"period", f.Period, &p.PeriodMS}, {"tolerance", f.Tolerance, &p.ToleranceMS}, {"hold", f.Hold, &p.HoldMS},
		{"gap", f.Gap, &p.GapMS}, {"min_interval", f.MinInterval, &p.MinIntervalMS},
	} {
		ms := time.Duration(d.from).Milliseconds()
		if ms < 0 || ms > artifact.MaxTimeMS || time.Duration(d.from)%time.Millisecond != 0 {
			return artifact.Pipeline{}, doc.errorf(d.key, "%s is not a whole number of milliseconds from 0 to a week (168h)", d.from)
		}
		*d.to = uint32(ms)
	}
	if a := f.Alarm; a != nil {
		if a.Raise == nil || a.Clear == nil {
			return artifact.Pipeline{}, doc.errorf("alarm", "raise or clear is missing; write both, with a distance between them")
		}
		p.Alarm = &artifact.Alarm{Output: a.Output, Raise: *a.Raise, Clear: *a.Clear}
	}
	for _, in := range f.Input {
		p.Inputs = append(p.Inputs, artifact.Input(in))
	}
	var mistake *artifact.PipelineError
	if err := p.Check(s); errors.As(err, &mistake) {
		return artifact.Pipeline{}, doc.errorf(tomlKey(doc, mistake.Field), "%s", mistake.Message)
	} else if err != nil {
		return artifact.Pipeline{}, err
	}
	return p, nil
}

// tomlKey is the key in the file of a field of a pipeline; where the key is
// left out, that of its table.
func tomlKey(doc *document, field string) string {
	key := strings.TrimSuffix(strings.Replace(field, "inputs", "input", 1), "_ms")
	for k := key; ; {
		if _, ok := doc.keys[k]; ok {
			return k
		}
		dot := strings.LastIndexByte(k, '.')
		if dot < 0 {
			return key
		}
		k = k[:dot]
	}
}
