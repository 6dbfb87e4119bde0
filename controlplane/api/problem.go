package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/controlplane/tune"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Codes of a Problem. The type of a problem document is "urn:sandpiper:" and
// one of them, or about:blank.
const (
	CodeUsage       = "usage"       // the request asks for something that cannot be
	CodeNotFound    = "not_found"   // no such model, version, alias, device, user or run
	CodeExists      = "exists"      // the id is taken
	CodeDenied      = "denied"      // not without the right token
	CodeBadData     = "bad_data"    // a file that cannot be used
	CodeTooLarge    = "too_large"   // a body beyond the operation's limit
	CodeRefused     = "refused"     // a check said no: unsigned, does not verify, int8 costs too much
	CodeNoPrevious  = "no_previous" // nothing to roll back to
	CodeUnreachable = "unreachable" // no broker, or the device is not there
	CodeBusy        = "busy"        // the device has no room for another request
	CodeTimeout     = "timeout"     // no answer in time
	CodeFailed      = "failed"      // it was tried, and did not work
	CodeInternal    = "internal"    // the control plane's fault; its log knows more
)

const typePrefix = "urn:sandpiper:"

// A Problem is an answer that is not of class 2xx: an RFC 9457 problem
// document. Detail says what is wrong, why and what to do.
type Problem struct{ huma.ErrorModel }

// Code returns one of the codes, or "".
func (p *Problem) Code() string {
	code, ok := strings.CutPrefix(p.Type, typePrefix)
	if !ok {
		return ""
	}
	return code
}

// Error returns the detail and what each part of the request has wrong.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		b.WriteString(p.Title)
	}
	for _, e := range p.Errors {
		b.WriteString("\n  ")
		if e.Location != "" {
			b.WriteString(e.Location + ": ")
		}
		b.WriteString(e.Message)
	}
	return b.String()
}

func newProblem(status int, code, detail string) *Problem {
	return &Problem{huma.ErrorModel{
		Type: typePrefix + code, Title: http.StatusText(status), Status: status, Detail: detail,
	}}
}

// problems maps our sentinels to answers: the first that err wraps counts.
// Their texts, and those of the layers between, are written for the caller.
var problems = []struct {
	is     error
	status int
	code   string
}{
	{registry.ErrUnsigned, http.StatusConflict, CodeRefused},
	{registry.ErrKey, http.StatusConflict, CodeRefused},
	{rollout.ErrNotStaged, http.StatusConflict, CodeRefused},
	{rollout.ErrPlan, http.StatusUnprocessableEntity, CodeUsage},
	{rollout.ErrNoKey, http.StatusConflict, CodeRefused},
	{predictor.ErrGolden, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrUnsigned, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrWrongKey, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrThreshold, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrFleet, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrDigest, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrABI, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrNonFinite, http.StatusUnprocessableEntity, CodeRefused},
	{artifact.ErrInvalid, http.StatusUnprocessableEntity, CodeBadData},
	{artifact.ErrTruncated, http.StatusUnprocessableEntity, CodeBadData},
	{artifact.ErrTooLarge, http.StatusUnprocessableEntity, CodeBadData},
	{artifact.ErrCorrupt, http.StatusUnprocessableEntity, CodeBadData},

	{tune.ErrNotFound, http.StatusNotFound, CodeNotFound},
	{tune.ErrState, http.StatusConflict, CodeFailed},
	{tune.ErrSpace, http.StatusUnprocessableEntity, CodeUsage},
	{tune.ErrNoValidation, http.StatusUnprocessableEntity, CodeUsage},
	{kernel.ErrTier, http.StatusUnprocessableEntity, CodeUsage},
	{run.ErrStopped, http.StatusConflict, CodeFailed},
	{run.ErrState, http.StatusConflict, CodeFailed},
	{train.ErrOtherData, http.StatusUnprocessableEntity, CodeBadData},
	{bptt.ErrOtherRun, http.StatusConflict, CodeFailed},
	{bptt.ErrCheckpoint, http.StatusConflict, CodeFailed},

	{registry.ErrPruned, http.StatusConflict, CodeFailed},
	{registry.ErrNotApproved, http.StatusConflict, CodeRefused},
	{registry.ErrApprovals, http.StatusUnprocessableEntity, CodeUsage},
	{fleet.ErrRole, http.StatusUnprocessableEntity, CodeUsage},
	{audit.ErrBroken, http.StatusConflict, CodeRefused},
	{audit.ErrHead, http.StatusUnprocessableEntity, CodeUsage},
	{rollout.ErrNoPrevious, http.StatusConflict, CodeNoPrevious},
	{rollout.ErrNoDevices, http.StatusNotFound, CodeNotFound},
	{rollout.ErrTarget, http.StatusUnprocessableEntity, CodeUsage},
	{registry.ErrRef, http.StatusUnprocessableEntity, CodeUsage},
	{registry.ErrAlias, http.StatusUnprocessableEntity, CodeUsage},
	{fleet.ErrReserved, http.StatusUnprocessableEntity, CodeUsage},
	{filter.ErrFilter, http.StatusUnprocessableEntity, CodeUsage},
	{fleet.ErrLabel, http.StatusUnprocessableEntity, CodeUsage},
	{fleet.ErrUsage, http.StatusUnprocessableEntity, CodeUsage},
	{protocol.ErrID, http.StatusUnprocessableEntity, CodeUsage},
	{train.ErrOptions, http.StatusUnprocessableEntity, CodeUsage},
	{train.ErrInt8, http.StatusUnprocessableEntity, CodeRefused},

	{dataset.ErrEmpty, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrOptions, http.StatusUnprocessableEntity, CodeUsage},
	{dataset.ErrLine, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrParquet, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrMalformed, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrColumn, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrTarget, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrLabel, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrWeight, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrOrder, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrTooFewRows, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrSplit, http.StatusUnprocessableEntity, CodeBadData},
	{recording.ErrState, http.StatusConflict, CodeFailed},
	{recording.ErrGone, http.StatusConflict, CodeFailed},
	{recording.ErrLimit, http.StatusUnprocessableEntity, CodeUsage},
	{dataset.ErrLeak, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrTruth, http.StatusUnprocessableEntity, CodeBadData},
	{dataset.ErrTooLarge, http.StatusRequestEntityTooLarge, CodeTooLarge},
	{bptt.ErrDiverged, http.StatusUnprocessableEntity, CodeFailed},
	{bptt.ErrConfig, http.StatusUnprocessableEntity, CodeUsage},

	{controlplane.ErrFilter, http.StatusUnprocessableEntity, CodeUsage},
	{controlplane.ErrSlow, http.StatusServiceUnavailable, CodeFailed},
	{controlplane.ErrNoBroker, http.StatusServiceUnavailable, CodeUnreachable},
	{controlplane.ErrOffline, http.StatusServiceUnavailable, CodeUnreachable},
	{controlplane.ErrTimeout, http.StatusGatewayTimeout, CodeTimeout},
	{controlplane.ErrTooLarge, http.StatusRequestEntityTooLarge, CodeTooLarge},
	{store.ErrBusy, http.StatusServiceUnavailable, CodeFailed},
	{store.ErrFull, http.StatusInsufficientStorage, CodeFailed},

	{fleet.ErrNotFound, http.StatusNotFound, CodeNotFound},
	{fleet.ErrExists, http.StatusConflict, CodeExists},
	{rollout.ErrMember, http.StatusConflict, CodeRefused},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, CodeTimeout},
	{context.Canceled, http.StatusServiceUnavailable, CodeFailed},
}

// problem returns the answer that err stands for. Anything we did not foresee
// becomes a 500 without its text, which may hold paths and the like; known
// reports whether the text is in the answer.
func problem(err error) (p *Problem, known bool) {
	if errors.As(err, &p) {
		return p, true
	}
	var body *http.MaxBytesError
	if errors.As(err, &body) {
		return newProblem(http.StatusRequestEntityTooLarge, CodeTooLarge, tooLarge(body.Limit)), true
	}
	var request *protocol.RequestError
	if errors.As(err, &request) {
		return requestProblem(request), true
	}
	for _, m := range problems {
		if errors.Is(err, m.is) {
			return newProblem(m.status, m.code, err.Error()), true
		}
	}
	p = newProblem(http.StatusInternalServerError, CodeInternal, "the control plane failed; its log says why")
	return p, false
}

// requestProblem is the answer that a device's refusal of a prediction stands for.
func requestProblem(e *protocol.RequestError) *Problem {
	status, code := http.StatusBadGateway, CodeInternal
	switch e.Code {
	case protocol.CodeBadRequest, protocol.CodeBadShape:
		status, code = http.StatusUnprocessableEntity, CodeBadData
	case protocol.CodeNoModel:
		status, code = http.StatusNotFound, CodeNotFound
	case protocol.CodeNotReady:
		status, code = http.StatusServiceUnavailable, CodeUnreachable
	case protocol.CodeExpired:
		status, code = http.StatusGatewayTimeout, CodeTimeout
	case protocol.CodeBusy:
		status, code = http.StatusServiceUnavailable, CodeBusy
	case protocol.CodeDenied:
		status, code = http.StatusForbidden, CodeDenied
	}
	return newProblem(status, code, e.Error())
}
