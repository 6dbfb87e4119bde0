package protocol

// Version is the protocol version this package speaks: the 1 of sp1.
const Version = 1

// Format is the format number of every message of sp1.
const Format = 1

// Limits of sp1. They fit inside what AWS IoT, NATS and RabbitMQ allow, and
// every decoder checks them before it allocates.
const (
	// MaxPayload is the largest MQTT payload, in bytes.
	MaxPayload = 128 << 10
	// MaxPacket is the largest MQTT packet: payload, topic and headers.
	MaxPacket = MaxPayload + 1<<10
	// ChunkSize is the size of a chunk of a transfer; the last may be shorter.
	ChunkSize = 32 << 10
	// MaxChunks is the largest number of chunks of one transfer, so that a
	// descriptor fits in one payload.
	MaxChunks = 2048
	// MaxTransfer is the largest transfer, in bytes: 64 MiB.
	MaxTransfer = MaxChunks * ChunkSize
	// MaxInline is the largest transfer that travels inside its descriptor.
	MaxInline = 8 << 10
	// MaxRelease is the largest signed release, envelope included.
	MaxRelease = 8 << 10
	// MaxTopic is the longest topic, in bytes.
	MaxTopic = 256
	// MaxSlashes is the largest number of slashes in a topic.
	MaxSlashes = 7
	// MaxFilters is the largest number of filters in one SUBSCRIBE.
	MaxFilters = 8
	// MaxFleetID and MaxID bound the length of a fleet and of every other id.
	MaxFleetID = 32
	MaxID      = 48
	// MaxWindowValues is the largest steps × features of a request: 256 KiB
	// of float32.
	MaxWindowValues = 1 << 16
	// MaxFeatures is the largest number of inputs or outputs of a model.
	MaxFeatures = 1024
	// MaxName is the longest name of a feature, in bytes.
	MaxName = 64
	// MaxText is the longest free text in a message: an error, a reason.
	MaxText = 512
	// MaxModels is the largest number of models on one device.
	MaxModels = 32
	// MaxTransfers is the largest number of transfers offered for a version.
	MaxTransfers = 8
	// MaxWrappedKey is the largest wrapped content key.
	MaxWrappedKey = 128
	// MaxCached is the largest number of cached digests a device reports.
	MaxCached = 128
	// MaxFindings is the largest number of findings a device reports.
	MaxFindings = 8
	// MaxCounts is the largest number of counters in one usage report.
	MaxCounts = 512
	// MaxInteger bounds integers, so that JSON readers keep them exact.
	MaxInteger = 1<<53 - 1
)
