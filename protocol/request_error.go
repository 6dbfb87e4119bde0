package protocol

// Codes of a RequestError.
const (
	CodeBadRequest = "bad_request" // not readable: syntax, unknown field, limit
	CodeBadShape   = "bad_shape"   // steps or features do not fit the model
	CodeNoModel    = "no_model"    // the device has no model of this name
	CodeNotReady   = "not_ready"   // it has one, not loaded yet, or its stream warms up
	CodeExpired    = "expired"     // the deadline passed before the answer
	CodeBusy       = "busy"        // the queue is full; RetryMS says when to try again
	CodeDenied     = "denied"      // not this user, or not now
	CodeInternal   = "internal"    // our fault; the device's log knows more
)

// A RequestError is why there is no prediction, both as Go error and in a
// PredictReply. Want and Got are for people.
type RequestError struct {
	Code    string `json:"code" cbor:"code"`
	Message string `json:"message" cbor:"message"`
	Want    string `json:"want,omitempty" cbor:"want,omitempty"`
	Got     string `json:"got,omitempty" cbor:"got,omitempty"`
	RetryMS uint32 `json:"retry_ms,omitempty" cbor:"retry_ms,omitempty"`
}

// Error returns code, message, and what was wanted and got.
func (e *RequestError) Error() string {
	s := e.Code + ": " + e.Message
	if e.Want != "" {
		s += ", want " + e.Want
	}
	if e.Got != "" {
		s += ", got " + e.Got
	}
	return s
}
