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
	f.StringSliceVar(&o.Categories, "category", nil, "`columns` that are texts: an input for each text of the training rows, and one for any other; requests give the texts")
	f.IntVar(&o.Regimes, "regimes", 0, "operating conditions to find in the training rows, each with a scaling of its own")
	f.StringSliceVar(&o.RegimeColumns, "regime-columns", nil, "`columns` that tell regimes apart, such as setting1,setting2")
	f.StringSliceVar(&o.Calendar, "calendar", nil, "`cycles` to add as features, in UTC: "+strings.Join(artifact.Cycles, ", ")+"; requests then give the time t of their last row")
	f.StringVar(&o.Anchor, "anchor", "", "last: predict changes from the window's last row, targets among the features being relative to it too; of a stream model outputs alone")
}

// drawPreparation shows what a model does with rows beside scaling them.
func drawPreparation(g *grid, s *api.Schema) {
	p := s.Prepare
	for _, c := range p.Categories {
		g.row("texts of "+s.Features[c.Feature].Name, strings.Join(c.Values, ", ")+", or any other")
	}
	if r := p.Regimes; r != nil {
		var names []string
		for _, f := range r.Features {
			names = append(names, s.Features[f].Name)
		}
		g.row("regimes", fmt.Sprintf("%d, by %s", r.Len(), strings.Join(names, ", ")))
		for k := range r.Len() {
			centre := make([]string, len(names))
			for j, v := range r.Centers[k*len(names):][:len(names)] {
				centre[j] = figure(float64(v))
			}
			g.row("", strings.Join(centre, ", "))
		}
	}
	if len(p.Calendar) > 0 {
		g.row("calendar", fmt.Sprintf("%s, of t and rows %s apart", strings.Join(p.Calendar, ", "), time.Duration(p.PeriodMS)*time.Millisecond))
	}
}
