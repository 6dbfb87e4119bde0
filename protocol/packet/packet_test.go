package packet

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// samples are packets as other programs write them, taken from the wire by
// hand, with what they mean.
func samples() map[string]struct {
	hex     string
	version byte
	want    any
} {
	return map[string]struct {
		hex     string
		version byte
		want    any
	}{
		"CONNECT 3.1.1": {"101b00044d51545404c2003c0000000575" + "2e616e6e" + "0004" + "74657374", V311,
			Hello{Version: V311, KeepAlive: 60, Username: "u.ann", Password: []byte("test")}},
		"CONNECT 5 with properties": {"102b00044d5154540506003c" + "0a" + "110000000a" + "210014" + "1700" + "0001" + "63" +
			"05" + "1800000005" + "0001" + "74" + "0003" + "627965", V5,
			Hello{Version: V5, KeepAlive: 60, ClientID: "c", Receive: 20, Will: &Message{Topic: "t", Payload: []byte("bye")}}},
		"PUBLISH QoS 0":                 {"3007" + "0003612f62" + "6869", V311, Message{Topic: "a/b", Payload: []byte("hi")}},
		"PUBLISH QoS 1, retained, 5":    {"330c" + "0003612f62" + "000a" + "020101" + "6869", V5, Message{Topic: "a/b", Payload: []byte("hi"), QoS: 1, Retain: true, ID: 10}},
		"PUBLISH 5 with response topic": {"3017" + "0003612f62" + "0d" + "080003" + "722f31" + "090004" + "01020304" + "6869", V5, Message{Topic: "a/b", Payload: []byte("hi")}},
		"SUBSCRIBE":                     {"820d" + "0001" + "0003612f62" + "01" + "0002612f" + "02", V311, []Filter{{"a/b", 1}, {"a/", 1}}},
		"UNSUBSCRIBE 5":                 {"a208" + "0002" + "00" + "0003612f62", V5, []string{"a/b"}},
	}
}

func parse(version byte, p Packet) (any, error) {
	switch p.Type {
	case Connect:
		return ParseConnect(p.Body)
	case Publish:
		return ParsePublish(version, p)
	case Subscribe:
		_, f, err := ParseSubscribe(version, p.Body, 8)
		return f, err
	case Unsubscribe:
		_, f, err := ParseUnsubscribe(version, p.Body, 8)
		return f, err
	case Puback:
		return ParseAck(p.Body)
	case Connack:
		return ParseConnack(p.Body)
	case Suback:
		_, c, err := ParseSuback(p.Body)
		return c, err
	}
	return nil, nil
}

func readBytes(b []byte) (Packet, error) { return Read(bufio.NewReader(bytes.NewReader(b)), MaxBody) }

func TestPacketsOfOthers(t *testing.T) {
	for name, tc := range samples() {
		raw, err := hex.DecodeString(tc.hex)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		raw[1] = byte(len(raw) - 2) // the length is not what is tested here
		p, err := readBytes(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := parse(tc.version, p)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.want)
		}
		for n := range len(p.Body) {
			cut, err := parse(tc.version, Packet{p.Type, p.Flags, p.Body[:n]})
			whole := p.Type == Publish && n >= len(p.Body)-2 || // a shorter payload
				p.Type == Subscribe && n == 8 // a filter less
			if (err == nil) != whole {
				t.Errorf("%s cut to %d bytes: %+v, %v", name, n, cut, err)
			}
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut to %d bytes: %v, want ErrMalformed", name, n, err)
			}
		}
		for n := range len(raw) {
			if _, err := readBytes(raw[:n]); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestPacketsOfOursRead(t *testing.T) {
	for _, v := range []byte{V311, V5} {
		will := &Message{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true}
		hello := Hello{Version: v, ClientID: "c", Username: "u", Password: []byte("p"), KeepAlive: 7, Will: will}
		long := Message{Topic: "a/b", Payload: bytes.Repeat([]byte{1}, 70_000), QoS: 1, ID: 9, Dup: true}
		for name, tc := range map[string]struct {
			b    []byte
			want any
		}{
			"CONNECT":     {AppendConnect(nil, hello), hello},
			"PUBLISH":     {AppendPublish(nil, v, long), long},
			"SUBSCRIBE":   {AppendSubscribe(nil, v, 3, []Filter{{"a/+", 1}, {"#", 0}}), []Filter{{"a/+", 1}, {"#", 0}}},
			"UNSUBSCRIBE": {AppendUnsubscribe(nil, v, 4, []string{"a/+", "#"}), []string{"a/+", "#"}},
			"PUBACK":      {AppendPuback(nil, v, 5, true), uint16(5)},
		} {
			p, err := readBytes(tc.b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := parse(v, p); err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("version %d %s: %+v, %v, want %+v", v, name, got, err, tc.want)
			}
		}
		for name, b := range map[string][]byte{
			"CONNACK": AppendConnack(nil, v, Accepted, "id"), "SUBACK": AppendSuback(nil, v, 1, []byte{0, Refused}),
			"UNSUBACK": AppendUnsuback(nil, v, 1, 2), "PINGRESP": AppendEmpty(nil, Pingresp),
		} {
			r := bufio.NewReader(bytes.NewReader(b))
			if _, err := Read(r, MaxBody); err != nil {
				t.Errorf("version %d %s: %v", v, name, err)
			}
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("version %d %s: the header says less than there is", v, name)
			}
		}
	}
	if code, err := ParseConnack(AppendConnack(nil, V311, BadLogin, "")[2:]); code != BadLogin || err != nil {
		t.Errorf("CONNACK read as %d, %v", code, err)
	}
	if _, codes, err := ParseSuback(AppendSuback(nil, V311, 1, []byte{1, Refused})[2:]); !bytes.Equal(codes, []byte{1, Refused}) || err != nil {
		t.Errorf("SUBACK read as %v, %v", codes, err)
	}
}

func TestBadPackets(t *testing.T) {
	for name, tc := range map[string]struct {
		b    string
		want error
	}{
		"a five-byte length":          {"\x30\xff\xff\xff\xff\x01", ErrTooLarge},
		"zeros without end":           {"\x30\x80\x80\x80\x80\x00", ErrMalformed},
		"256 MB announced":            {"\x30\xff\xff\xff\x7f", ErrTooLarge},
		"type 0":                      {"\x00\x00", ErrMalformed},
		"QoS 2's PUBREC":              {"\x50\x02\x00\x01", ErrMalformed},
		"SUBSCRIBE without its flag":  {"\x80\x06\x00\x01\x00\x01a\x00", ErrMalformed},
		"HTTP":                        {"GET / HTTP/1.1\r\n\r\n", ErrMalformed},
		"MQTT 3.1":                    {"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c", ErrVersion},
		"PUBLISH at QoS 2":            {"\x34\x06\x00\x01a\x00\x01x", ErrUnsupported},
		"PUBLISH at QoS 3":            {"\x36\x06\x00\x01a\x00\x01x", ErrMalformed},
		"PUBLISH to a wildcard":       {"\x30\x04\x00\x01+x", ErrMalformed},
		"PUBLISH without a packet id": {"\x32\x06\x00\x01a\x00\x00x", ErrMalformed},
		"a topic with a NUL":          {"\x30\x04\x00\x01\x00x", ErrMalformed},
		"a topic that is no UTF-8":    {"\x30\x04\x00\x01\xffx", ErrMalformed},
		"SUBSCRIBE to nothing":        {"\x82\x02\x00\x01", ErrMalformed},
		"SUBSCRIBE to a/#/b":          {"\x82\x0a\x00\x01\x00\x05a/#/b\x00", ErrMalformed},
		"SUBSCRIBE to $share":         {"\x82\x0f\x00\x01\x00\x0a$share/g/a\x00", ErrMalformed},
		"nine filters":                {"\x82\x26\x00\x01" + strings.Repeat("\x00\x01a\x00", 9), ErrTooLarge},
		"CONNECT with a reserved bit": {"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01c", ErrMalformed},
		"CONNECT with a will at 2":    {"\x10\x13\x00\x04MQTT\x04\x14\x00\x3c\x00\x01c\x00\x01t\x00\x01x", ErrUnsupported},
		"CONNECT with more behind":    {"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x01cx", ErrMalformed},
	} {
		p, err := readBytes([]byte(tc.b))
		if err == nil {
			_, err = parse(V311, p)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	alias := AppendPublish(nil, V5, Message{Topic: "a"})
	alias = append(alias[:len(alias)-1], 3, 0x23, 0, 1)
	alias[1] = byte(len(alias) - 2)
	p, err := readBytes(alias)
	if err == nil {
		_, err = ParsePublish(V5, p)
	}
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("a topic alias: %v, want ErrUnsupported", err)
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a", false},
		{"+/b", "a/b", true},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"+", "a", true},
		{"a/b/", "a/b", false},
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"a/+", "a", false},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a/b", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true}, {"+/+", "/a", true}, {"+", "", true}, {"a/+/c", "a//c", true}, {"a", "a/b", false},
	} {
		if got := Match(tc.filter, tc.topic); got != tc.want {
			t.Errorf("Match(%q, %q) = %v", tc.filter, tc.topic, got)
		}
	}
}

// FuzzParse: whatever is read without an error is written as the same thing.
func FuzzParse(f *testing.F) {
	for _, tc := range samples() {
		raw, _ := hex.DecodeString(tc.hex)
		raw[1] = byte(len(raw) - 2)
		f.Add(raw, tc.version == V5)
	}
	f.Fuzz(func(t *testing.T, raw []byte, v5 bool) {
		version := V311
		if v5 {
			version = V5
		}
		p, err := readBytes(raw)
		if err != nil {
			return
		}
		m, err := parse(version, p)
		if err != nil {
			return
		}
		var again []byte
		switch m := m.(type) {
		case Hello:
			m.Receive = 0 // a property, which is not written
			if m.Username == "" {
				return // one that is there and empty is written as none
			}
			again = AppendConnect(nil, m)
			p2, err := readBytes(again)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ParseConnect(p2.Body); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%+v read back as %+v, %v", m, got, err)
			}
		case Message:
			p2, err := readBytes(AppendPublish(nil, version, m))
			if errors.Is(err, ErrTooLarge) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ParsePublish(version, p2); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%+v read back as %+v, %v", m, got, err)
			}
		}
	})
}
