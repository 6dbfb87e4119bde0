package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// trainEach trains a detector of each data file, under a name of its own, and prints
// the report of all together.
func (a *app) trainEach(ctx context.Context, o api.TrainOptions, data dataArgs) error {
	switch {
	case o.Task != train.Anomaly:
		return usagef("--each-file is of --task %s: a detector belongs to one machine", train.Anomaly)
	case o.From != "":
		return usagef("--each-file begins anew; go on from the version of each file by itself")
	case len(data.validation)+len(data.test) > 0:
		return usagef("--each-file holds out rows of each file, by --split")
	}
	files, err := a.dataFiles(data.data)
	if err != nil {
		return err
	}
	base := o.Model
	models, err := modelNames(base, files)
	if err != nil {
		return err
	}
	return a.with(ctx, func(ctx context.Context, c *api.Client) error {
		var reports []train.Report
		for i, f := range files {
			p := a.newProgress()
			o.Model = models[i]
			raw, err := c.Train(ctx, o, []api.File{f}, p.show)
			p.done()
			if err != nil {
				return fmt.Errorf("%s, after %d of %d models: %w", f.Name, i, len(files), err)
			}
			r, err := train.ParseReport(raw)
			if err != nil {
				return err
			}
			r.Setup = nil // of no use here, and large
			reports = append(reports, *r)
		}
		pooled, err := train.Pool(base, reports)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(pooled)
		if err != nil {
			return err
		}
		return a.printReport(raw)
	})
}

// modelNames are the names of the models of files: base and what the file's path has
// beyond that of all, in the letters of an id.
func modelNames(base string, files []api.File) ([]string, error) {
	shared := path.Dir(files[0].Name)
	for _, f := range files {
		for shared != "." && shared != "/" && !strings.HasPrefix(f.Name, shared+"/") {
			shared = path.Dir(shared)
		}
	}
	var names []string
	seen := map[string]string{}
	for _, f := range files {
		name := strings.TrimPrefix(f.Name, shared+"/")
		for _, ending := range append([]string{".gz"}, dataEndings...) {
			name = strings.TrimSuffix(name, ending)
		}
		name = base + "-" + strings.Trim(strings.Map(idLetter, strings.ToLower(name)), "-")
		if err := protocol.CheckID(name); err != nil {
			return nil, usagef("the model of %s: %w; rename the file", f.Name, err)
		}
		if other := seen[name]; other != "" {
			return nil, usagef("the models of %s and %s would both be called %s; rename one", other, f.Name, name)
		}
		seen[name] = f.Name
		names = append(names, name)
	}
	return names, nil
}

// idLetter is r, or - where an id has no such letter.
func idLetter(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
		return r
	}
	return '-'
}
