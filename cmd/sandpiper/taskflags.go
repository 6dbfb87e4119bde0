package main

import (
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// addTasks adds the flags of the tasks classify and anomaly.
func (t *trainFlags) addTasks(o *api.TrainOptions) {
	f := t.group("Classes and anomalies")
	f.StringVar(&o.Label, "label", "", "column that says what a row is, text or a number: of classify the class, of anomaly whether it is normal")
	f.StringSliceVar(&o.ClassWeight, "class-weight", nil, "of classify: "+train.Balanced+", or `CLASS=WEIGHT` for each that does not count once")
	f.Float64Var(&o.Crop, "crop", 0, "of classify: `part` of the first rows of a series, at most, that training leaves out, anew each time")
	f.StringVar(&o.Normal, "normal", "", "of anomaly: the `label` of normal rows, which alone are learned from (default 0, false, no, ok or normal)")
	f.StringVar(&o.Residual, "residual", "", "of anomaly: what is compared with what came: "+oneOf(artifact.Residuals))
	f.BoolVar(&t.eachFile, "each-file", false, "of anomaly: train a model of each file of --data, named after it, and report on all together")
	f.IntVar(&o.Smooth, "smooth", 0, "of anomaly: `rows` over which residuals are averaged (default 10)")
	f.Float64Var(&o.ThresholdQuantile, "threshold-quantile", 0, "of anomaly: quantile of the scores of normal rows before the test part (default 0.99)")
	f.Float64Var(&o.ThresholdFactor, "threshold-factor", 0, "of anomaly: the threshold as a multiple of that quantile (default 2)")
}
