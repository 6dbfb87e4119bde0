package protocol

// A Truth is what a prediction should have been, on sp1/F/d/D/y/MODEL, named
// by stream and time of its window's last sample, or by the request's CORR.
// JSON or CBOR:
//
//	{"s":"pump-3","t":1767225600000,"y":[17.25]}
//	{"corr":"42","y":[17.25]}
type Truth struct {
	Stream string
	T      int64
	Corr   string
	Y      []float32
}
