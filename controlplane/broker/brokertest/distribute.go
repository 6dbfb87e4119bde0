package brokertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Distribution configures Distribute. Zero fields take the defaults.
type Distribution struct {
	Fleet   string
	Clients int // healthy devices; default 1,000
	Bytes   int // of the transfer; default 70,000
	// Dial opens a connection for each healthy device.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialStuck, if set, opens the connection of one more device, which
	// subscribes first and then never reads. It should have no buffers, or
	// they may swallow the whole transfer: use broker.Pipe.
	DialStuck func(ctx context.Context) (net.Conn, error)
	// Publish is the control plane's: it sends a message at QoS 1.
	Publish func(ctx context.Context, topic string, payload []byte) error
	// Password of every device.
	Password string
}

// A Result is what Distribute measured, from the first chunk published.
type Result struct {
	Clients, Chunks, Bytes int
	Published              time.Duration // the control plane's last message was acknowledged
	Median, Last           time.Duration // devices had the whole transfer, verified
}

func (r Result) String() string {
	return fmt.Sprintf("%d bytes in %d chunks to %d devices: published %v, median %v, last %v", r.Bytes, r.Chunks,
		r.Clients, r.Published.Round(time.Millisecond), r.Median.Round(time.Millisecond), r.Last.Round(time.Millisecond))
}

// Distribute connects Clients devices, then publishes one transfer as retained
// chunks and its descriptor, and waits until every healthy device has fetched
// and verified it, with at most two chunks in flight each.
func Distribute(ctx context.Context, d Distribution) (Result, error) {
	if d.Clients == 0 {
		d.Clients = 1000
	}
	if d.Bytes == 0 {
		d.Bytes = 70_000
	}
	t := newTransfer(d.Fleet, d.Bytes)
	if d.DialStuck != nil {
		conn, err := t.stick(ctx, d)
		if err != nil {
			return Result{}, fmt.Errorf("stuck device: %w", err)
		}
		defer conn.Close()
	}

	g, ctx := errgroup.WithContext(ctx)
	var ready sync.WaitGroup
	var mu sync.Mutex
	var ends []time.Time
	ready.Add(d.Clients)
	for i := range d.Clients {
		g.Go(func() error {
			end, err := t.fetch(ctx, d, fmt.Sprintf("d.dev-%d", i), sync.OnceFunc(ready.Done))
			if err != nil {
				return fmt.Errorf("device %d: %w", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, end)
			return nil
		})
	}
	ready.Wait()
	res := Result{Clients: d.Clients, Chunks: len(t.chunks), Bytes: d.Bytes}
	start := time.Now()
	err := t.publish(ctx, d)
	res.Published = time.Since(start)
	if err := errors.Join(g.Wait(), err); err != nil {
		return Result{}, err
	}
	slices.SortFunc(ends, time.Time.Compare)
	res.Median, res.Last = ends[len(ends)/2].Sub(start), ends[len(ends)-1].Sub(start)
	return res, nil
}

type transfer struct {
	fleet  string
	hash   string
	sum    [32]byte
	chunks [][]byte
}

func newTransfer(fleet string, size int) *transfer {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	t := &transfer{fleet: fleet, sum: sha256.Sum256(b)}
	t.hash = hex.EncodeToString(t.sum[:16])
	for c := range slices.Chunk(b, protocol.ChunkSize) {
		t.chunks = append(t.chunks, c)
	}
	return t
}

func (t *transfer) publish(ctx context.Context, d Distribution) error {
	for n, c := range t.chunks {
		if err := d.Publish(ctx, protocol.ChunkTopic(t.fleet, t.hash, n), c); err != nil {
			return err
		}
	}
	return d.Publish(ctx, protocol.DescriptorTopic(t.fleet, t.hash), t.sum[:])
}

// stick connects the device that never reads again once it has subscribed to
// everything.
func (t *transfer) stick(ctx context.Context, d Distribution) (net.Conn, error) {
	conn, err := d.DialStuck(ctx)
	if err != nil {
		return nil, err
	}
	c, err := Connect(conn, Options{ID: "d.stuck", Password: d.Password})
	if err == nil {
		_, err = c.Subscribe(1, "sp1/"+t.fleet+"/b/#")
	}
	if err == nil {
		_, err = c.Until(SUBACK)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// fetch is one device: it calls ready when it has subscribed to the
// descriptor, and returns when it had the transfer.
func (t *transfer) fetch(ctx context.Context, d Distribution, id string, ready func()) (time.Time, error) {
	defer ready()
	conn, err := d.Dial(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := Connect(conn, Options{ID: id, Password: d.Password})
	if err != nil {
		return time.Time{}, err
	}
	if _, err := c.Subscribe(1, protocol.DescriptorTopic(t.fleet, t.hash)); err != nil {
		return time.Time{}, err
	}
	if _, err := c.Until(SUBACK); err != nil {
		return time.Time{}, err
	}
	ready()
	p, err := c.Until(PUBLISH)
	if err != nil {
		return time.Time{}, err
	}
	got, err := t.fetchChunks(c, p)
	if err != nil {
		return time.Time{}, err
	}
	if sum := sha256.Sum256(bytes.Join(got, nil)); !bytes.Equal(sum[:], p.Payload) {
		return time.Time{}, errors.New("transfer does not match its descriptor")
	}
	return time.Now(), nil
}

// fetchChunks answers the descriptor p and subscribes to chunk after chunk.
func (t *transfer) fetchChunks(c *Client, p Packet) ([][]byte, error) {
	got := make([][]byte, len(t.chunks))
	asked, have := 0, 0
	for {
		if p.Type == SUBACK && p.Codes[0] > 1 {
			return nil, fmt.Errorf("subscription to a chunk refused: %#x", p.Codes[0])
		}
		if p.Type == PUBLISH {
			if err := c.Ack(p); err != nil {
				return nil, err
			}
			if topic, err := protocol.ParseTopic(p.Topic); err == nil && topic.Kind == protocol.TopicChunk &&
				got[topic.N] == nil {
				got[topic.N] = p.Payload
				have++
			}
		}
		for ; asked < len(got) && asked < have+2; asked++ {
			if _, err := c.Subscribe(1, protocol.ChunkTopic(t.fleet, t.hash, asked)); err != nil {
				return nil, err
			}
		}
		if have == len(got) {
			return got, nil
		}
		var err error
		if p, err = c.Next(); err != nil {
			return nil, err
		}
	}
}
