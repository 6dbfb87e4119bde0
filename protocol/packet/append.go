package packet

import "encoding/binary"

// header appends a fixed header for a body of n bytes.
func header(b []byte, typ, flags byte, n int) []byte {
	return varint(append(b, typ<<4|flags), n)
}

func varint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func varintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// AppendConnect appends a CONNECT with a clean session; a will is at most
// 64 KiB, as MQTT has it.
func AppendConnect(b []byte, h Hello) []byte {
	flags, n := byte(0x02), 2+4+1+1+2+2+len(h.ClientID)
	if w := h.Will; w != nil {
		flags |= 0x04 | w.QoS<<3
		if w.Retain {
			flags |= 0x20
		}
		n += 2 + len(w.Topic) + 2 + len(w.Payload)
	}
	if h.Username != "" {
		flags |= 0x80
		n += 2 + len(h.Username)
	}
	if h.Password != nil {
		flags |= 0x40
		n += 2 + len(h.Password)
	}
	if h.Version == V5 {
		n++
		if h.Will != nil {
			n++
		}
	}
	b = header(b, Connect, 0, n)
	b = append(text(b, "MQTT"), h.Version, flags)
	b = binary.BigEndian.AppendUint16(b, h.KeepAlive)
	b = noProperties(b, h.Version)
	b = text(b, h.ClientID)
	if w := h.Will; w != nil {
		b = noProperties(b, h.Version)
		b = text(text(b, w.Topic), string(w.Payload))
	}
	if h.Username != "" {
		b = text(b, h.Username)
	}
	if h.Password != nil {
		b = text(b, string(h.Password))
	}
	return b
}

func noProperties(b []byte, version byte) []byte {
	if version == V5 {
		b = append(b, 0)
	}
	return b
}

// connackV5 are the codes of MQTT 5 (§3.2.2.2) for those of 3.1.1.
var connackV5 = map[byte]byte{Accepted: 0, BadVersion: 0x84, BadClientID: 0x85, BadLogin: 0x86, Unauthorized: 0x87}

// AppendConnack appends a CONNACK, code as in MQTT 3.1.1. In MQTT 5 it says
// what this side does not speak: QoS 2, shared subscriptions, subscription
// identifiers, stored sessions, packets over MaxBody. assigned is the client
// id given to one that has none, "" otherwise.
func AppendConnack(b []byte, version, code byte, assigned string) []byte {
	if version != V5 {
		return append(header(b, Connack, 0, 2), 0, code)
	}
	var p []byte
	if code == Accepted {
		p = append(p, 0x11, 0, 0, 0, 0) // session expiry
		p = append(p, 0x24, 1)          // maximum QoS
		p = binary.BigEndian.AppendUint32(append(p, 0x27), MaxBody)
		p = append(p, 0x29, 0, 0x2a, 0)
		if assigned != "" {
			p = text(append(p, 0x12), assigned)
		}
	}
	b = header(b, Connack, 0, 2+varintLen(len(p))+len(p))
	return append(varint(append(b, 0, connackV5[code]), len(p)), p...)
}

// AppendPublish appends m.
func AppendPublish(b []byte, version byte, m Message) []byte {
	n := 2 + len(m.Topic) + len(m.Payload)
	flags := m.QoS << 1
	if m.Retain {
		flags |= 1
	}
	if m.Dup {
		flags |= 8
	}
	if m.QoS > 0 {
		n += 2
	}
	if version == V5 {
		n++
	}
	b = text(header(b, Publish, flags, n), m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, m.ID)
	}
	return append(noProperties(b, version), m.Payload...)
}

// AppendPuback appends a PUBACK; denied shows in MQTT 5 only.
func AppendPuback(b []byte, version byte, id uint16, denied bool) []byte {
	if version == V5 && denied {
		return append(binary.BigEndian.AppendUint16(header(b, Puback, 0, 3), id), 0x87)
	}
	return binary.BigEndian.AppendUint16(header(b, Puback, 0, 2), id)
}

// AppendSubscribe appends a SUBSCRIBE.
func AppendSubscribe(b []byte, version byte, id uint16, filters []Filter) []byte {
	n := 2
	if version == V5 {
		n++
	}
	for _, f := range filters {
		n += 2 + len(f.Topic) + 1
	}
	b = binary.BigEndian.AppendUint16(header(b, Subscribe, 2, n), id)
	b = noProperties(b, version)
	for _, f := range filters {
		b = append(text(b, f.Topic), f.QoS)
	}
	return b
}

// AppendUnsubscribe appends an UNSUBSCRIBE.
func AppendUnsubscribe(b []byte, version byte, id uint16, filters []string) []byte {
	n := 2
	if version == V5 {
		n++
	}
	for _, f := range filters {
		n += 2 + len(f)
	}
	b = noProperties(binary.BigEndian.AppendUint16(header(b, Unsubscribe, 2, n), id), version)
	for _, f := range filters {
		b = text(b, f)
	}
	return b
}

// AppendSuback appends a SUBACK: a granted QoS or Refused for each filter.
func AppendSuback(b []byte, version byte, id uint16, codes []byte) []byte {
	n := 2 + len(codes)
	if version == V5 {
		n++
	}
	b = binary.BigEndian.AppendUint16(header(b, Suback, 0, n), id)
	b = noProperties(b, version)
	for _, c := range codes {
		if version == V5 && c == Refused {
			c = 0x87 // not authorized
		}
		b = append(b, c)
	}
	return b
}

// AppendUnsuback appends an UNSUBACK for n filters.
func AppendUnsuback(b []byte, version byte, id uint16, n int) []byte {
	if version != V5 {
		return binary.BigEndian.AppendUint16(header(b, Unsuback, 0, 2), id)
	}
	b = binary.BigEndian.AppendUint16(header(b, Unsuback, 0, 3+n), id)
	return append(b, make([]byte, 1+n)...)
}

// AppendEmpty appends a packet without a body: Pingreq, Pingresp or Disconnect.
func AppendEmpty(b []byte, typ byte) []byte { return header(b, typ, 0, 0) }
