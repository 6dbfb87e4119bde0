// Package client asks devices for predictions over MQTT, through the control
// plane's broker or a device's own listener.
//
//	c, err := client.New(client.Config{Broker: "tcp://127.0.0.1:1883", User: "ann", Token: token})
//	reply, err := c.Predict(ctx, "pump-03", "turbofan", rows)
//
// It needs nothing but packages protocol and packet: no MQTT library.
package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

var (
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("client closed")
	// ErrDenied: the broker does not accept the user or its token, or does not
	// let the user read its replies.
	ErrDenied = errors.New("denied by the broker")
)

const (
	keepAlive = 30 * time.Second
	timeout   = 10 * time.Second // for a connection to be made, and a packet to be taken
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

// A Config says which broker and as whom.
type Config struct {
	Broker string // tcp://host:port or tls://host:port
	Fleet  string // "default" by default
	User   string // an id; required
	Token  string // its password; may be empty on a device's own listener
	QoS    byte   // of requests, 0 or 1; at 0 a lost packet is a lost request

	TLS  *tls.Config                                 // for tls://; nil verifies against the system's roots
	Dial func(ctx context.Context) (net.Conn, error) // in place of Broker
}

// A Client asks for predictions. It connects when it is first asked, and again
// when the connection was lost. Its methods are safe for concurrent use.
type Client struct {
	cfg    Config
	prefix string // of correlation ids

	connecting chan struct{} // holds a token: who has it may connect

	mu     sync.Mutex // guards what follows
	n      uint64     // requests so far
	conn   *conn      // nil without a connection
	closed bool
}

// New checks cfg; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Fleet == "" {
		cfg.Fleet = "default"
	}
	if err := errors.Join(protocol.CheckFleet(cfg.Fleet), protocol.CheckID(cfg.User)); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if cfg.QoS > 1 {
		return nil, fmt.Errorf("client: QoS %d, want 0 or 1", cfg.QoS)
	}
	if cfg.Dial == nil {
		dial, err := dialer(cfg.Broker, cfg.TLS)
		if err != nil {
			return nil, err
		}
		cfg.Dial = dial
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	c := &Client{cfg: cfg, prefix: hex.EncodeToString(random[:]) + "-", connecting: make(chan struct{}, 1)}
	c.connecting <- struct{}{}
	return c, nil
}

func dialer(broker string, config *tls.Config) (func(context.Context) (net.Conn, error), error) {
	u, err := url.Parse(broker)
	if err != nil || u.Hostname() == "" || u.Port() == "" || u.Scheme != "tcp" && u.Scheme != "tls" {
		return nil, fmt.Errorf("client: broker %q: write tcp://host:port or tls://host:port", broker)
	}
	if u.Scheme == "tls" {
		d := &tls.Dialer{Config: config}
		return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", u.Host) }, nil
	}
	d := new(net.Dialer)
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", u.Host) }, nil
}

// Predict asks device for a prediction of model from rows: one window, oldest
// row first, in the sensors' own units and the order of the model's features.
// The deadline of ctx goes with the request, so that no device computes what
// nobody waits for. An error is a *protocol.RequestError if the device says
// that it cannot answer, and else as Ask returns it.
func (c *Client) Predict(ctx context.Context, device, model string, rows [][]float32) (protocol.PredictReply, error) {
	r := protocol.PredictRequest{Steps: len(rows)}
	for i, row := range rows {
		if i == 0 {
			r.Features = len(row)
		}
		if len(row) != r.Features {
			return protocol.PredictReply{}, &protocol.RequestError{
				Code: protocol.CodeBadShape, Message: fmt.Sprintf("row %d has the wrong length", i+1),
				Want: strconv.Itoa(r.Features), Got: strconv.Itoa(len(row)),
			}
		}
		r.Rows = append(r.Rows, row...)
	}
	if deadline, has := ctx.Deadline(); has {
		r.DeadlineMS = uint32(max(1, min(time.Until(deadline).Milliseconds(), 1<<31)))
	}
	request, err := r.AppendCBOR(nil)
	if err != nil {
		return protocol.PredictReply{}, err
	}
	b, err := c.Ask(ctx, device, model, request)
	if err != nil {
		return protocol.PredictReply{}, err
	}
	reply, err := protocol.DecodePredictReply(b)
	if err == nil && reply.Error != nil {
		err = reply.Error
	}
	return reply, err
}

// Ask sends request, JSON or CBOR, and returns the device's reply in kind,
// which may be an error reply. When the connection is lost meanwhile, the same
// request is sent again: a device answers it once and repeats that answer for
// a minute. It ends with ctx, and otherwise fails only with ErrDenied,
// ErrClosed and protocol.ErrID.
func (c *Client) Ask(ctx context.Context, device, model string, request []byte) ([]byte, error) {
	if err := errors.Join(protocol.CheckID(device), protocol.CheckID(model)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.n++
	corr := c.prefix + strconv.FormatUint(c.n, 36)
	c.mu.Unlock()
	m := packet.Message{
		Topic: protocol.PredictTopic(c.cfg.Fleet, device, model, c.cfg.User, corr), Payload: request, QoS: c.cfg.QoS,
	}
	key := protocol.ReplyTopic(c.cfg.Fleet, c.cfg.User, device, corr)
	var last error
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		conn, err := c.connection(ctx)
		if err == nil {
			var reply []byte
			if reply, err = conn.ask(ctx, key, m); err == nil {
				return reply, nil
			}
		}
		if ctx.Err() == nil {
			last = err
		}
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrClosed) {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if last != nil {
				return nil, fmt.Errorf("ask %s for a prediction of %s: %w (%w)", device, model, context.Cause(ctx), last)
			}
			return nil, fmt.Errorf("ask %s for a prediction of %s: %w", device, model, context.Cause(ctx))
		}
	}
}

// connection returns the connection there is, or makes one; only one at a time
// is made.
func (c *Client) connection(ctx context.Context) (*conn, error) {
	select {
	case <-c.connecting:
		defer func() { c.connecting <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	conn, closed := c.conn, c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if conn != nil && !conn.ended() {
		return conn, nil
	}
	conn, err := connect(ctx, c.cfg)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.close(ErrClosed)
		return nil, ErrClosed
	}
	c.conn = conn
	return conn, nil
}

// Close ends the connection; requests under way fail with ErrClosed.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.close(ErrClosed)
	}
}

// A conn is one connection: a goroutine reads it, another keeps it alive.
type conn struct {
	nc   net.Conn
	gone chan struct{} // closed at its end

	writing sync.Mutex // held while a packet is written

	mu      sync.Mutex // guards what follows
	lastID  uint16
	waiting map[string]chan []byte // by reply topic
	err     error                  // why it ended
}

// connect dials, logs in and subscribes to the user's replies.
func connect(ctx context.Context, cfg Config) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	hello := packet.Hello{
		Version: packet.V311, ClientID: "u." + cfg.User, Username: "u." + cfg.User, KeepAlive: uint16(keepAlive / time.Second),
	}
	if cfg.Token != "" {
		hello.Password = []byte(cfg.Token)
	}
	filters := []packet.Filter{{Topic: protocol.ReplyTopic(cfg.Fleet, cfg.User, "+", "+"), QoS: 1}}
	r := bufio.NewReaderSize(nc, 4<<10)
	if err := greet(nc, r, hello, filters); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &conn{nc: nc, gone: make(chan struct{}), waiting: make(map[string]chan []byte)}
	go func() { c.close(c.read(r)) }()
	go c.ping()
	return c, nil
}

func greet(nc net.Conn, r *bufio.Reader, hello packet.Hello, filters []packet.Filter) error {
	if _, err := nc.Write(packet.AppendConnect(nil, hello)); err != nil {
		return err
	}
	p, err := packet.Read(r, packet.MaxBody)
	if err != nil {
		return err
	}
	code, err := packet.ParseConnack(p.Body)
	if err != nil || p.Type != packet.Connack {
		return errors.Join(packet.ErrMalformed, err)
	}
	if code == packet.BadLogin || code == packet.Unauthorized {
		return fmt.Errorf("%w: user %s", ErrDenied, hello.Username)
	} else if code != packet.Accepted {
		return fmt.Errorf("the broker refused the connection with code %d", code)
	}
	if _, err := nc.Write(packet.AppendSubscribe(nil, packet.V311, 1, filters)); err != nil {
		return err
	}
	for {
		p, err := packet.Read(r, packet.MaxBody)
		if err != nil {
			return err
		}
		if p.Type != packet.Suback {
			continue // a message may come first
		}
		_, codes, err := packet.ParseSuback(p.Body)
		if err == nil && (len(codes) != 1 || codes[0] == packet.Refused) {
			err = fmt.Errorf("%w: subscription to %s", ErrDenied, filters[0].Topic)
		}
		return err
	}
}

// ask publishes m and waits for the message on topic.
func (c *conn) ask(ctx context.Context, topic string, m packet.Message) ([]byte, error) {
	reply := make(chan []byte, 1)
	c.mu.Lock()
	c.waiting[topic] = reply
	if c.lastID++; c.lastID == 0 {
		c.lastID = 1
	}
	m.ID = c.lastID
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, topic)
		c.mu.Unlock()
	}()
	if err := c.write(packet.AppendPublish(nil, packet.V311, m)); err != nil {
		return nil, err
	}
	select {
	case b := <-reply:
		return b, nil
	case <-c.gone:
		select {
		case b := <-reply: // it was the last thing to come
			return b, nil
		default:
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return nil, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *conn) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
	_, err := c.nc.Write(b)
	if err != nil {
		c.close(err)
	}
	return err
}

// read hands replies to those who wait.
func (c *conn) read(r *bufio.Reader) error {
	for {
		_ = c.nc.SetReadDeadline(time.Now().Add(keepAlive * 3 / 2))
		p, err := packet.Read(r, packet.MaxBody)
		if err != nil {
			return err
		}
		if p.Type != packet.Publish {
			continue // answers to what needs none
		}
		m, err := packet.ParsePublish(packet.V311, p)
		if err != nil {
			return err
		}
		c.mu.Lock()
		waiting := c.waiting[m.Topic]
		c.mu.Unlock()
		if waiting != nil {
			select {
			case waiting <- m.Payload:
			default: // a second reply
			}
		}
		if m.QoS > 0 {
			if err := c.write(packet.AppendPuback(nil, packet.V311, m.ID, false)); err != nil {
				return err
			}
		}
	}
}

func (c *conn) ping() {
	t := time.NewTicker(keepAlive / 2)
	defer t.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-t.C:
			if c.write(packet.AppendEmpty(nil, packet.Pingreq)) != nil {
				return
			}
		}
	}
}

func (c *conn) ended() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// close ends the connection, if it has not ended yet.
func (c *conn) close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	close(c.gone)
	c.nc.Close()
}
