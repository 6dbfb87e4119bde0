package protocol

// A Sample is one reading of a stream's sensors, on sp1/F/d/D/s/STREAM, in
// the sensors' own units. JSON or CBOR:
//
//	{"t":1767225600000,"v":{"flow":12.5,"pressure":3.1}}
type Sample struct {
	T int64              // UTC ms; 0 means the time of arrival
	V map[string]float32 // by feature name
}
