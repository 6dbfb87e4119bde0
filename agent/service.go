package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// repliesInFlight bounds QoS 1 replies that the broker has not taken yet.
	repliesInFlight = 64
	// localUser is who the socket's and Predict's requests are counted for.
	localUser = "local"
)

// A request is one prediction asked for over MQTT.
type request struct {
	topic   protocol.Topic
	payload []byte
	qos     byte
	arrived time.Time
	last    chan struct{} // not a request: closed when all before it are answered
}

// A service answers prediction requests: one bounded queue, one worker. A full
// queue answers busy; when not even those answers can be sent fast enough, the
// request is dropped and counted.
type service struct {
	agent    *Agent
	queue    chan request
	refused  chan request // answered busy
	inFlight chan func(context.Context) error
	repeats  *repeats
	draining atomic.Bool
	dropped  atomic.Uint64
}

func newService(a *Agent, queueLen int) *service {
	return &service{
		agent:    a,
		queue:    make(chan request, queueLen),
		refused:  make(chan request, queueLen),
		inFlight: make(chan func(context.Context) error, repliesInFlight),
		repeats:  newRepeats(),
	}
}

// offer takes r in or refuses it; it does not block.
func (s *service) offer(r request) {
	if !s.draining.Load() {
		select {
		case s.queue <- r:
			return
		default:
		}
	}
	select {
	case s.refused <- r:
	default:
		s.dropped.Add(1)
	}
	s.agent.usage.count(r.topic.Model, r.topic.User, busy, 0)
}

func (s *service) start(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return s.work(ctx) })
	g.Go(func() error { return s.refuse(ctx) })
	g.Go(func() error { return s.settle(ctx) })
}

// drain stops taking requests and waits, at most d, for those that were.
func (s *service) drain(d time.Duration) {
	s.draining.Store(true)
	t := time.NewTimer(d)
	defer t.Stop()
	last := make(chan struct{})
	select {
	case s.queue <- request{last: last}:
	case <-t.C:
		return
	}
	select {
	case <-last:
	case <-t.C:
	}
}

// work answers the queue.
func (s *service) work(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-s.queue:
			if r.last != nil {
				close(r.last)
				continue
			}
			s.reply(ctx, r, s.answer(r))
		}
	}
}

// refuse tells those whom the queue had no room for.
func (s *service) refuse(ctx context.Context) error {
	full := &protocol.RequestError{
		Code: protocol.CodeBusy, Message: "the request queue is full", RetryMS: 200,
		Want: fmt.Sprintf("at most %d waiting", cap(s.queue)),
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-s.refused:
			s.reply(ctx, r, encodeReply(r.payload, protocol.PredictReply{ID: r.topic.Corr, Model: r.topic.Model, Error: full}))
		}
	}
}

// settle waits for the broker to take QoS 1 replies, in their order, so that
// the number under way is bounded and the worker does not wait for each.
func (s *service) settle(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case sent := <-s.inFlight:
			if err := sent(ctx); err != nil {
				s.agent.cfg.Log.Debug("reply lost", "err", err)
			}
		}
	}
}

// reply publishes b where r's topic says, with the QoS of the request.
func (s *service) reply(ctx context.Context, r request, b []byte) {
	t := r.topic
	sent, err := s.agent.link.Send(link.Message{
		Topic: protocol.ReplyTopic(t.Fleet, t.User, t.Device, t.Corr), Payload: b, QoS: r.qos,
	})
	switch {
	case err != nil:
		s.agent.cfg.Log.Debug("reply lost", "err", err)
	case r.qos > 0:
		select {
		case s.inFlight <- sent:
		case <-ctx.Done():
		}
	}
}

// answer predicts, or repeats the answer that the same request got before.
func (s *service) answer(r request) []byte {
	key := s.repeats.key(r.topic, r.payload)
	if b, ok := s.repeats.get(key, time.Now()); ok {
		return b
	}
	m := s.agent.predict(r.topic.Model, r.topic.User, r.topic.Corr, r.payload, r.arrived)
	b := encodeReply(r.payload, m)
	if m.Error == nil {
		s.repeats.put(key, b, time.Now())
	}
	return b
}

// encodeReply encodes m as the request was.
func encodeReply(request []byte, m protocol.PredictReply) []byte {
	b, err := m.AppendReply(nil, protocol.IsJSON(request))
	if err != nil {
		m = protocol.PredictReply{ID: m.ID, Model: m.Model, Error: &protocol.RequestError{
			Code: protocol.CodeInternal, Message: "the reply cannot be encoded",
		}}
		b, _ = m.AppendReply(nil, protocol.IsJSON(request))
	}
	return b
}

// Predict answers one request of a local client, JSON or CBOR, in kind; errors
// are replies too. It works without a broker, and reads no clock but for the
// request's deadline, which is relative to the call.
func (a *Agent) Predict(ctx context.Context, model string, req []byte) []byte {
	return encodeReply(req, a.predict(model, localUser, "", req, time.Now()))
}

// predict answers one request on the version that is in place when it begins.
func (a *Agent) predict(model, user, id string, payload []byte, arrived time.Time) protocol.PredictReply {
	m := protocol.PredictReply{ID: id}
	if err := protocol.CheckID(model); err != nil {
		m.Error = &protocol.RequestError{Code: protocol.CodeNoModel, Message: clip(err.Error())}
		return m
	}
	m.Model = model
	v := a.models.get(model)
	if v == nil {
		m.Error = a.absent(model)
		a.usage.count(model, user, refused, 0)
		return m
	}
	m.Version = v.version()
	began := time.Now()
	m.Y, m.Error = a.infer(v, payload, arrived)
	took := time.Since(began)
	if m.Error != nil {
		a.usage.count(model, user, refused, 0)
		return m
	}
	m.US = uint32(min(took.Microseconds(), math.MaxUint32))
	a.usage.count(model, user, answered, took)
	return m
}

// absent says why no version of model answers.
func (a *Agent) absent(model string) *protocol.RequestError {
	if _, known := a.snapshot.Load().Models[model]; known {
		return &protocol.RequestError{
			Code: protocol.CodeNotReady, Message: "no version of this model is in place yet", RetryMS: 5000,
		}
	}
	return &protocol.RequestError{Code: protocol.CodeNoModel, Message: "this device has no such model", Got: model}
}

// infer decodes, checks the deadline, predicts, and judges the output.
func (a *Agent) infer(v *served, payload []byte, arrived time.Time) ([]float32, *protocol.RequestError) {
	if len(payload) > protocol.MaxPayload {
		return nil, &protocol.RequestError{
			Code: protocol.CodeBadRequest, Message: "request is too large",
			Want: fmt.Sprintf("at most %d bytes", protocol.MaxPayload), Got: fmt.Sprintf("%d bytes", len(payload)),
		}
	}
	req, err := protocol.DecodePredictRequest(payload, v.predictor.Features())
	if err != nil {
		return nil, requestError(err)
	}
	if req.Steps != v.predictor.Window() {
		return nil, &protocol.RequestError{
			Code: protocol.CodeBadShape, Message: "wrong number of rows",
			Want: fmt.Sprintf("%d×%d", v.predictor.Window(), len(v.predictor.Features())), Got: fmt.Sprintf("%d×%d", req.Steps, req.Features),
		}
	}
	if waited := time.Since(arrived); req.DeadlineMS > 0 && waited > time.Duration(req.DeadlineMS)*time.Millisecond {
		return nil, &protocol.RequestError{
			Code: protocol.CodeExpired, Message: "the deadline passed while the request waited",
			Want: fmt.Sprintf("%d ms", req.DeadlineMS), Got: fmt.Sprintf("%d ms", waited.Milliseconds()),
		}
	}
	y, err := v.predictor.PredictAppend(nil, req.Rows)
	if err == nil {
		if a.cfg.Tamper != nil {
			a.cfg.Tamper(v.name, v.Digest, y)
		}
		err = finite(y)
	}
	if err == nil {
		return y, nil
	}
	return nil, a.predictError(v, err)
}

// finite reports the first output that is not a number.
func finite(y []float32) error {
	for i, v := range y {
		if v-v != 0 { // NaN or an infinity
			return fmt.Errorf("%w: output %d is %v", errOutput, i, v)
		}
	}
	return nil
}

// errOutput means that the model, not its input, is at fault.
var errOutput = errors.New("non-finite output")

// predictError maps an error of the predictor. An output that is not a number
// ends the trial of the version that made it.
func (a *Agent) predictError(v *served, err error) *protocol.RequestError {
	switch {
	case errors.Is(err, kernel.ErrShape):
		return &protocol.RequestError{Code: protocol.CodeBadShape, Message: clip(err.Error())}
	case errors.Is(err, kernel.ErrRange), errors.Is(err, kernel.ErrNonFinite):
		return &protocol.RequestError{Code: protocol.CodeBadRequest, Message: clip(err.Error())}
	}
	if errors.Is(err, errOutput) {
		e := broke(v.name, v.held, err)
		e.code = "non_finite"
		select {
		case a.deliveries <- delivery{event: e}:
		default: // the loop is behind; the next such output comes again
		}
	}
	a.cfg.Log.Error("prediction failed", "model", v.name, "version", v.version(), "err", err)
	return &protocol.RequestError{Code: protocol.CodeInternal, Message: "the prediction failed; the device's log says why"}
}

func requestError(err error) *protocol.RequestError {
	var e *protocol.RequestError
	if errors.As(err, &e) {
		return e
	}
	return &protocol.RequestError{Code: protocol.CodeBadRequest, Message: clip(err.Error())}
}
