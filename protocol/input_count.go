package protocol

import "fmt"

// MaxInputBins is the largest number of counts of an InputCount.
const MaxInputBins = 128

// An InputCount says which values one version of a model was given: how many rows fell
// in each bin of its reference (artifact.Reference), those of one feature after the
// other, cumulative since the start of the agent or since the version took the place
// of another. A Usage has it once an hour, of one model after the other, so that it
// takes less than 1 KB an hour; one without does not say that nothing was counted.
type InputCount struct {
	Model   string   `cbor:"model"`
	Version Digest   `cbor:"v"`
	Bins    []uint64 `cbor:"bins"`
}

func (c *InputCount) check() error {
	if err := firstError(CheckID(c.Model), checkLen("bins", len(c.Bins), MaxInputBins)); err != nil {
		return err
	}
	for _, n := range c.Bins {
		if err := checkUint("bins", n); err != nil {
			return fmt.Errorf("inputs of %.60q: %w", c.Model, err)
		}
	}
	return nil
}
