package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

type predictInput struct {
	Device  string `path:"device" doc:"Id of the device" maxLength:"256"`
	Model   string `path:"model" doc:"Name of the model" maxLength:"256"`
	RawBody []byte `contentType:"application/json"`
}

func (a *API) registerPredictions() {
	register(a, huma.Operation{
		OperationID: "predict", Method: http.MethodPost, Path: "/devices/{device}/predict/{model}",
		Summary: "Ask a device for one prediction",
		Description: fmt.Sprintf("The body is what an MQTT client sends: rows of numbers in the sensors' units, oldest first, or {\"x\": rows, \"dl\": ms}; "+
			"at most %d bytes. The answer is the device's reply.", protocol.MaxPayload),
		Tags: []string{"predictions"}, MaxBodyBytes: protocol.MaxPayload, SkipValidateBody: true,
		Errors: []int{http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
	}, a.predict)
}

func (a *API) predict(ctx context.Context, in *predictInput) (*body[json.RawMessage], error) {
	if err := a.needBroker("a prediction"); err != nil {
		return nil, err
	}
	if err := protocol.CheckID(in.Model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if !json.Valid(in.RawBody) {
		return nil, newProblem(http.StatusUnprocessableEntity, CodeBadData, "the window is no JSON; write rows of numbers, such as [[1.5, 20], [1.6, 21]]")
	}
	reply, err := a.cp.Predict(ctx, in.Device, in.Model, in.RawBody)
	if err != nil {
		return nil, err
	}
	var r struct {
		Error *protocol.RequestError `json:"error"`
	}
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, newProblem(http.StatusBadGateway, CodeInternal, fmt.Sprintf("device %s answered no JSON", in.Device))
	}
	if r.Error != nil {
		return nil, r.Error
	}
	return answer(json.RawMessage(reply), nil)
}

// Predict asks a device for one prediction and returns its reply, the bytes of
// a protocol.PredictReply as JSON. request is what an MQTT client sends.
func (c *Client) Predict(ctx context.Context, device, model string, request []byte) (json.RawMessage, error) {
	var reply json.RawMessage
	err := c.decode(ctx, call{
		method: http.MethodPost, path: escape("devices", device, "predict", model),
		contentType: "application/json", body: bytes.NewReader(request),
	}, &reply)
	return reply, err
}
