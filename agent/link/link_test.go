package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A peer is the broker's side of one connection, played by a test.
type peer struct {
	net.Conn
	t *testing.T
}

// read returns the next packet, which must be of type P.
func read[P packets.ControlPacket](p peer) P {
	p.t.Helper()
	cp, err := packets.ReadPacket(p)
	got, ok := cp.(P)
	if err != nil || !ok {
		p.t.Errorf("read %v, %v; want a %T", cp, err, got)
	}
	return got
}

func (p peer) write(cp packets.ControlPacket) {
	p.t.Helper()
	if err := cp.Write(p); err != nil {
		p.t.Error(err)
	}
}

// welcome accepts the CONNECT.
func (p peer) welcome() *packets.ConnectPacket {
	c := read[*packets.ConnectPacket](p)
	p.write(packets.NewControlPacket(packets.Connack))
	return c
}

// linked runs a Link whose connections broker answers, each in a goroutine.
// Everything has ended when the test ends.
func linked(t *testing.T, c Config, broker func(peer)) *Link {
	t.Helper()
	if c.Dial == nil && c.URL == "" {
		c.Dial = func(context.Context) (net.Conn, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer l.Close()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			theirs, err := l.Accept()
			if err == nil {
				go func() { defer theirs.Close(); broker(peer{theirs, t}) }()
			}
			return conn, err
		}
	}
	if c.Connected == nil {
		c.Connected = func(context.Context) error { return nil }
	}
	if c.Received == nil {
		c.Received = func(Message) {}
	}
	c.Log = slog.New(slog.DiscardHandler)
	c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
	c.ClientID, c.Username, c.Password = "d.d1", "d.d1", "secret"
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the end of its context", err)
		}
	})
	return l
}

func TestRefusedSubscriptionIsAnError(t *testing.T) {
	outcome := make(chan error)
	var l *Link
	ready := make(chan struct{})
	l = linked(t, Config{Connected: func(ctx context.Context) error {
		<-ready
		outcome <- l.Subscribe(ctx, 1, "a", "b", "c")
		outcome <- l.Subscribe(ctx, 1, "d")
		return nil
	}}, func(p peer) {
		p.welcome()
		for {
			cp, err := packets.ReadPacket(p)
			s, ok := cp.(*packets.SubscribePacket)
			if err != nil || !ok {
				return
			}
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID = s.MessageID
			for _, f := range s.Topics {
				code := byte(1)
				if f == "b" {
					code = 0x80
				}
				ack.ReturnCodes = append(ack.ReturnCodes, code)
			}
			p.write(ack)
		}
	})
	close(ready)
	if err := <-outcome; !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `["b"]`) {
		t.Errorf("Subscribe(a, b, c) = %v, want ErrRefused for b alone", err)
	}
	if err := <-outcome; err != nil {
		t.Errorf("Subscribe(d) = %v", err)
	}
}

func TestDeniedCredentialsAreNamedWithoutThePassword(t *testing.T) {
	tried := make(chan struct{}, 100)
	l := linked(t, Config{}, func(p peer) {
		c := read[*packets.ConnectPacket](p)
		if c.Username != "d.d1" || string(c.Password) != "secret" || c.ClientIdentifier != "d.d1" || !c.CleanSession || c.ProtocolVersion != 4 {
			t.Errorf("CONNECT as %q, %q, clean %t, version %d", c.Username, c.ClientIdentifier, c.CleanSession, c.ProtocolVersion)
		}
		ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
		ack.ReturnCode = packets.ErrRefusedBadUsernameOrPassword
		p.write(ack)
		tried <- struct{}{}
	})
	<-tried
	<-tried // the reason of the first is set
	if r := l.Reason(); !strings.Contains(r, ErrDenied.Error()) || !strings.Contains(r, "d.d1") || strings.Contains(r, "secret") {
		t.Errorf("Reason() = %q, want that d.d1 is refused, and no password", r)
	}
}

// A header that announces 256 MB ends the connection before anything of that
// size is allocated, and the next connection works.
func TestOversizedPacketEndsTheConnection(t *testing.T) {
	got, ups := make(chan Message, 1), make(chan struct{}, 100)
	seen := 0
	l := linked(t, Config{
		Connected: func(context.Context) error { ups <- struct{}{}; return nil },
		Received:  func(m Message) { got <- m },
	}, func(p peer) {
		p.welcome()
		if seen++; seen == 1 {
			if _, err := p.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 't'}); err != nil {
				t.Error(err)
			}
		} else {
			m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			m.TopicName, m.Payload = "t", make([]byte, protocol.MaxPayload)
			p.write(m)
		}
		_, _ = io.Copy(io.Discard, p) // until the device leaves
	})
	<-ups
	<-ups // again
	if r := *l.reason.Load(); !strings.Contains(r, protocol.ErrPacketTooLarge.Error()) {
		t.Errorf("the first connection ended with %q, want %v", r, protocol.ErrPacketTooLarge)
	}
	if m := <-got; m.Topic != "t" || len(m.Payload) != protocol.MaxPayload {
		t.Errorf("got %d bytes on %s, want %d on t", len(m.Payload), m.Topic, protocol.MaxPayload)
	}
}

// authority returns a certificate of its own authority for 127.0.0.1.
func authority(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLSBrokerMustShowATrustedCertificate(t *testing.T) {
	cert, pool := authority(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	connects := make(chan string, 100)
	go func() {
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				if s.Handshake() != nil {
					return // the device did not trust us
				}
				connects <- peer{s, t}.welcome().Username
				_, _ = io.Copy(io.Discard, s) // until the device leaves
			}()
		}
	}()
	url := "tls://" + inner.Addr().String()
	up := make(chan struct{}, 100)
	linked(t, Config{URL: url, TLS: &tls.Config{RootCAs: pool}, Connected: func(context.Context) error { up <- struct{}{}; return nil }}, nil)
	<-up
	if user := <-connects; user != "d.d1" {
		t.Errorf("connected as %q", user)
	}
	stranger := linked(t, Config{URL: url, TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, nil)
	for !strings.Contains(*stranger.reason.Load(), "certificate") {
		if len(connects) > 0 {
			t.Fatal("the credentials went to a broker that is not trusted")
		}
		time.Sleep(time.Millisecond)
	}
	if stranger.Up() || len(connects) > 0 {
		t.Error("connected to a broker that is not trusted")
	}
}

func TestBrokerAddressIsChecked(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:1883", "tcp://host", "ws://host:80", "tcp://:1883", "://"} {
		if _, err := New(Config{URL: url}); err == nil || !strings.Contains(err.Error(), "tcp://host:port") {
			t.Errorf("New(%q) = %v, want what to write", url, err)
		}
	}
}
