package brokerproof

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// Idle connects devices FROM to TO-1 to the broker at addr as agents do, with
// their will, their subscriptions and what they retain, and leaves them idle.
// close ends them.
func Idle(ctx context.Context, addr string, from, to int) (close func(), err error) {
	var conns []net.Conn
	close = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for i := from; i < to; i++ {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			close()
			return nil, err
		}
		conns = append(conns, nc)
		if err := idle(nc, fmt.Sprintf("device-%05d", i)); err != nil {
			close()
			return nil, fmt.Errorf("device %d: %w", i, err)
		}
	}
	return close, nil
}

func idle(nc net.Conn, device string) error {
	r := bufio.NewReaderSize(nc, 256)
	expect := func(typ byte) error {
		for {
			p, err := packet.Read(r, packet.MaxBody)
			if err != nil || p.Type == typ {
				return err
			}
		}
	}
	up := protocol.UpTopic(Fleet, device)
	b := packet.AppendConnect(nil, packet.Hello{
		Version: packet.V311, ClientID: "d." + device, Username: "d." + device, Password: []byte(password), KeepAlive: 600,
		Will: &packet.Message{Topic: up, Payload: []byte(protocol.Offline), QoS: 1, Retain: true},
	})
	b = packet.AppendSubscribe(b, packet.V311, 1, []packet.Filter{
		{Topic: protocol.WantTopic(Fleet, device), QoS: 1}, {Topic: protocol.AckTopic(Fleet, device), QoS: 1},
		{Topic: protocol.PredictTopic(Fleet, device, "+", "+", "+"), QoS: 1}, {Topic: protocol.StateTopic(Fleet), QoS: 1},
	})
	b = packet.AppendPublish(b, packet.V311, packet.Message{Topic: up, Payload: []byte(protocol.Online), QoS: 1, Retain: true, ID: 2})
	b = packet.AppendPublish(b, packet.V311, packet.Message{
		Topic: protocol.HaveTopic(Fleet, device), Payload: make([]byte, 300), QoS: 1, Retain: true, ID: 3,
	})
	if _, err := nc.Write(b); err != nil {
		return err
	}
	return errors.Join(expect(packet.Connack), expect(packet.Suback), expect(packet.Puback), expect(packet.Puback))
}
