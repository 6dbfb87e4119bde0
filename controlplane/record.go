package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

var (
	// ErrFilter: a filter of topics that samples cannot be recorded from.
	ErrFilter = errors.New("topic to record from")
	// ErrSlow: a recording whose reader is so slow that samples had to wait too long.
	ErrSlow = errors.New("samples come faster than they are read")
)

// waiting is how many samples of a recording may wait to be written; tests change it.
var waiting = 1 << 14

// A Recorded counts what was recorded.
type Recorded struct {
	Samples    int
	Unreadable int // messages that are no sample, or have no form as a line
}

// Record writes the samples that match filter, sp1/FLEET/d/DEVICE/s/STREAM with +
// for any device or stream, to w until ctx ends, which is no error: each as a line
// of InfluxDB line protocol as it comes,
//
//	STREAM,device=DEVICE NAME=VALUE[,NAME=VALUE…] NANOSECONDS
//
// with the time of its arrival where it has none. ErrNoBroker if there is no
// connection to the broker, or there will be none any more.
func (c *ControlPlane) Record(ctx context.Context, filter string, w io.Writer) (r Recorded, err error) {
	if err := checkFilter(c.Fleet.Name(), filter); err != nil {
		return r, err
	}
	session := c.session.Load()
	if session == nil || !session.Connected() {
		return r, ErrNoBroker
	}
	ctx, stop := context.WithCancelCause(ctx)
	messages := make(chan broker.Message, waiting)
	watched := make(chan error, 1)
	go func() {
		watched <- session.Watch(ctx, filter, 0, func(_ context.Context, m broker.Message) {
			select {
			case messages <- m:
			default: // the session has other work than to wait
				stop(ErrSlow)
			}
		})
	}()
	err = r.write(ctx, w, messages, watched)
	stop(nil)
	err = errors.Join(err, <-watched)
	if context.Cause(ctx) == ErrSlow { //nolint:errorlint // the very one
		err = ErrSlow
	}
	return r, err
}

// recordLines is Record for package recording.
func (c *ControlPlane) recordLines(ctx context.Context, filter string, w io.Writer) error {
	_, err := c.Record(ctx, filter, w)
	return err
}

// write writes messages until ctx ends, and then those that wait. An error of
// watched ends it too.
func (r *Recorded) write(ctx context.Context, w io.Writer, messages <-chan broker.Message, watched chan error) error {
	var line []byte
	one := func(m broker.Message) error {
		var ok bool
		if line, ok = appendLine(line[:0], m, time.Now()); !ok {
			r.Unreadable++
			return nil
		}
		r.Samples++
		_, err := w.Write(line)
		return err
	}
	for {
		select {
		case m := <-messages:
			if err := one(m); err != nil {
				return err
			}
			continue
		case err := <-watched:
			watched <- nil // for whoever waits for its end
			if err != nil {
				return err
			}
		case <-ctx.Done():
		}
		for {
			select {
			case m := <-messages:
				if err := one(m); err != nil {
					return err
				}
			default:
				return nil
			}
		}
	}
}

// checkFilter refuses what is no filter of samples of the fleet.
func checkFilter(fleet, filter string) error {
	p := strings.Split(filter, "/")
	name := func(s string) bool { return s == "+" || protocol.CheckID(s) == nil }
	if len(p) == 6 && p[0] == "sp1" && p[1] == fleet && p[2] == "d" && name(p[3]) && p[4] == "s" && name(p[5]) {
		return nil
	}
	return fmt.Errorf("%w: %.120q; samples are at %s, with + for any device or stream", ErrFilter, filter, protocol.SampleTopic(fleet, "DEVICE", "STREAM"))
}

// appendLine appends a sample as a line; ok is false for what has no such form.
func appendLine(b []byte, m broker.Message, arrival time.Time) (line []byte, ok bool) {
	var s protocol.Sample
	topic, err := protocol.ParseTopic(m.Topic)
	if err != nil || s.UnmarshalBinary(m.Payload) != nil || s.T > math.MaxInt64/int64(time.Millisecond) {
		return b, false
	}
	b = append(b, topic.Stream...)
	b = append(append(b, ",device="...), topic.Device...)
	names := slices.Concat(slices.Collect(maps.Keys(s.V)), slices.Collect(maps.Keys(s.Texts)))
	for _, name := range names {
		// A line has no line break in it, and no backslash before what it escapes.
		if strings.ContainsAny(name, "\r\n") || strings.HasSuffix(name, `\`) {
			return b, false
		}
	}
	slices.Sort(names)
	for i, name := range names {
		b = append(b, " ,"[min(i, 1)])
		for _, ch := range []byte(name) {
			if ch == ',' || ch == '=' || ch == ' ' {
				b = append(b, '\\')
			}
			b = append(b, ch)
		}
		b = append(b, '=')
		if text, ok := s.Texts[name]; ok {
			if strings.ContainsAny(text, "\r\n") {
				return b, false
			}
			b = append(append(append(b, '"'), strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(text)...), '"')
			continue
		}
		b = strconv.AppendFloat(b, float64(s.V[name]), 'g', -1, 32)
	}
	at := arrival.UnixNano()
	if s.T != 0 {
		at = s.T * int64(time.Millisecond)
	}
	return append(strconv.AppendInt(append(b, ' '), at, 10), '\n'), true
}
