package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

func (a *API) registerDrift() {
	a.registerDataOperation(huma.Operation{
		OperationID: "compare-data", Path: Base + "/data/drift",
		Summary: "Compare the part test with the part data, column by column: population stability index and Kolmogorov–Smirnov",
		Responses: map[string]*huma.Response{"200": {
			Description: "The comparison",
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[dataset.Drift]()),
			}},
		}},
	}, func(w http.ResponseWriter, files dataset.Files, o DataOptions) error {
		d, err := dataset.Compare(files, o.columns(), o.Data)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d) // a client that has gone
		return nil
	})
}

// CompareData compares the files held out as a test part with the others.
func (c *Client) CompareData(ctx context.Context, o DataOptions, files []File) (d dataset.Drift, err error) {
	rq, wait := multipartCall(escape("data", "drift"), append([]part{{name: partOptions, json: o}}, dataParts(files)...))
	err = c.decode(ctx, rq, &d)
	if broken := wait(); broken != nil {
		return d, broken
	}
	return d, err
}
