package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// workerN is how many goroutines process packets. They wait for queues at most, and
// those for no worker.
const workerN = 64

// A job is a packet to process for the client that sent it.
type job struct {
	cl   *mqtt.Client
	pk   *packets.Packet
	done chan<- error // capacity 1
}

// process has a worker process pk, and waits for it. mochi passes packets of 0.8 KB by
// value through a dozen functions: done by the goroutines that read, each of 10,000
// would keep a stack of 32 KB instead of 16.
func (b *Broker) process(cl *mqtt.Client, pk packets.Packet) error {
	done := make(chan error, 1)
	b.work <- job{cl, &pk, done}
	return <-done
}

// processAll is a worker.
func (b *Broker) processAll() {
	for j := range b.work {
		j.done <- b.server.InjectPacket(j.cl, *j.pk)
	}
}
