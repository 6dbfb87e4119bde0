package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// addPreparation adds the flags of what is done to rows in the model itself.
func (t *trainFlags) addPreparation(o *api.TrainOptions) {
	f := t.group("Preparation, which the model carries and devices repeat")
	f.StringSliceVar(&o.Scale, "scale", nil, oneOf(dataset.Scales)+", or COLUMN=one of these, of features")
	f.StringSliceVar(&o.Calendar, "calendar", nil, "`cycles` to add as features, in UTC: "+strings.Join(artifact.Cycles, ", ")+"; requests then give the time t of their last row")
	f.StringVar(&o.Anchor, "anchor", "", "last: predict changes from the window's last row, targets among the features being relative to it too; of a stream model outputs alone")
}

// drawPreparation shows what a model does with rows beside scaling them.
func drawPreparation(g *grid, s *api.Schema) {
	p := s.Prepare
	if len(p.Calendar) > 0 {
		g.row("calendar", fmt.Sprintf("%s, of t and rows %s apart", strings.Join(p.Calendar, ", "), time.Duration(p.PeriodMS)*time.Millisecond))
	}
}
