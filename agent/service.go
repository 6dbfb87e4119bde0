package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

const (
	// repliesInFlight bounds QoS 1 replies that the broker has not taken yet.
	repliesInFlight = 64
	// localUser is who the socket's and Predict's requests are counted for.
	localUser = "local"
)

// Requests for one model that wait together are computed together, from
// minBatch on, where that is faster. int8 LSTM(128), 50×8, µs for each window,
// on one core of an AMD EPYC (Zen 5):
//
//	           1 at once   2      3      4      8
//	avx512vnni   24.4     23.8   23.8   13.8   13.7
//	avxvnni      34.6     35.7   36.8   31.0   31.1
//	avx2         50.0     52.5   51.7   50.0   49.8
//	generic       460      458    458    486    489
//
// So of four that wait on the first tier all have their answer after 55 µs,
// where it was 24, 49, 73 and 98. maxBatch bounds what the first waits for the
// others.
const (
	minBatch = 4
	maxBatch = 8
)

// batches reports whether a tier is faster at several windows together than at
// one after the other.
func batches(tier string) bool { return tier == "avx512vnni" || tier == "avxvnni" }

// A request is one prediction asked for over MQTT.
type request struct {
	topic   protocol.Topic
	payload []byte
	qos     byte
	arrived time.Time
	local   bool // from a client of the agent's own listener, where its reply goes too
}

// client is whom r is queued and counted for.
func (r request) client() string {
	if r.simple() {
		return protocol.Anonymous
	}
	return r.topic.User
}

// simple reports whether r names nobody.
func (r request) simple() bool { return r.topic.Kind == protocol.TopicSimplePredict }

// replyTopic derives from r's topic, never from its body.
func (r request) replyTopic() string {
	t := r.topic
	if r.simple() {
		return protocol.SimpleOutputTopic(t.Fleet, t.Device, t.Model)
	}
	return protocol.ReplyTopic(t.Fleet, t.User, t.Device, t.Corr)
}

// A service answers prediction requests: one queue, fair between clients, and
// one worker. Those that the queue has no room for are answered busy; when not
// even those answers can be sent fast enough, they are dropped and counted.
type service struct {
	agent    *Agent
	queue    *queue
	refused  chan request // answered busy
	inFlight chan func(context.Context) error
	repeats  *repeats
	draining atomic.Bool
	drained  chan struct{} // closed when draining and nothing waits
	dropped  atomic.Uint64
}

func newService(a *Agent, queueLen int) *service {
	return &service{
		agent:    a,
		queue:    newQueue(queueLen),
		refused:  make(chan request, queueLen),
		inFlight: make(chan func(context.Context) error, repliesInFlight),
		repeats:  newRepeats(),
		drained:  make(chan struct{}),
	}
}

// offer takes r in or refuses it; it does not block.
func (s *service) offer(r request) {
	out := []request{r}
	if !s.draining.Load() {
		out = s.queue.put(r)
	}
	for _, r := range out {
		r.payload = mark(r.payload)
		select {
		case s.refused <- r:
		default:
			s.dropped.Add(1)
		}
		s.agent.usage.count(r.topic.Model, r.client(), busy, 0)
	}
}

// mark returns a few bytes in the encoding of payload: a request that waits to be
// refused keeps no more.
func mark(payload []byte) []byte {
	if protocol.IsJSON(payload) {
		return []byte("{}")
	}
	return []byte{0xa0} // an empty map
}

func (s *service) start(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return s.work(ctx) })
	g.Go(func() error { return s.refuse(ctx) })
	g.Go(func() error { return s.settle(ctx) })
}

// drain stops taking requests and waits, at most d, for those that were.
func (s *service) drain(d time.Duration) {
	s.draining.Store(true)
	s.queue.signal()
	select {
	case <-s.drained:
	case <-time.After(d):
	}
}

// work answers the queue.
func (s *service) work(ctx context.Context) error {
	drained := sync.OnceFunc(func() { close(s.drained) })
	for {
		batch := s.queue.take(maxBatch)
		if len(batch) > 0 {
			s.answer(ctx, batch)
			continue
		}
		if s.draining.Load() {
			drained()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.queue.wake:
		}
	}
}

// refuse tells those whom the queue had no room for.
func (s *service) refuse(ctx context.Context) error {
	full := &protocol.RequestError{
		Code: protocol.CodeBusy, Message: "the request queue is full", RetryMS: 200,
		Want: fmt.Sprintf("at most %d waiting", s.queue.limit),
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
	if r.local {
		s.agent.local.Publish(packet.Message{Topic: r.replyTopic(), Payload: b, QoS: r.qos})
		return
	}
	sent, err := s.agent.link.Send(link.Message{Topic: r.replyTopic(), Payload: b, QoS: r.qos})
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

// answer answers requests for one model: together, or one after the other
// where that is as fast. One that was answered before gets the same answer.
func (s *service) answer(ctx context.Context, batch []request) {
	n := 1
	if len(batch) >= minBatch && s.agent.batches {
		n = len(batch)
	}
	for part := range slices.Chunk(batch, n) {
		asks := make([]*ask, 0, n)
		for _, r := range part {
			if b, ok := s.repeats.get(s.repeats.key(r.topic, r.payload), time.Now()); ok && !r.simple() {
				s.reply(ctx, r, b)
				continue
			}
			asks = append(asks, &ask{request: r, user: r.client(), id: r.topic.Corr})
		}
		s.agent.predict(part[0].topic.Model, asks)
		for _, k := range asks {
			b := encodeReply(k.payload, k.reply)
			if k.reply.Error == nil && !k.simple() {
				s.repeats.put(s.repeats.key(k.topic, k.payload), b, time.Now())
			}
			s.reply(ctx, k.request, b)
		}
		s.agent.pipelines.overhear(asks)
	}
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
	k := &ask{request: request{payload: req, arrived: time.Now()}, user: localUser}
	a.predict(model, []*ask{k})
	b := encodeReply(req, k.reply)
	a.pipelines.overhear([]*ask{k})
	return b
}

// An ask is a request, for whom it is counted, and what becomes of it.
type ask struct {
	request
	user, id string
	version  *served // nil: none answers
	rows     []float32
	stream   string
	t        int64
	reply    protocol.PredictReply
}

// predict answers asks for one model on the version that is in place when it
// begins.
func (a *Agent) predict(model string, asks []*ask) {
	if err := protocol.CheckID(model); err != nil {
		for _, k := range asks {
			k.reply = protocol.PredictReply{ID: k.id, Error: &protocol.RequestError{
				Code: protocol.CodeNoModel, Message: clip(err.Error()),
			}}
		}
		return
	}
	v := a.models.get(model)
	ready := make([]*ask, 0, len(asks))
	for _, k := range asks {
		k.reply = protocol.PredictReply{ID: k.id, Model: model}
		if v == nil {
			k.reply.Error = a.absent(model)
		} else {
			k.version, k.reply.Version = v, v.label
			var req protocol.PredictRequest
			req, k.reply.Error = read(v, k.request)
			k.rows, k.stream, k.t = req.Rows, req.Stream, req.T
		}
		if k.reply.Error == nil {
			ready = append(ready, k)
		}
	}
	for len(ready) > 0 { // those of as many rows together
		n := 1
		for n < len(ready) && len(ready[n].rows) == len(ready[0].rows) {
			n++
		}
		a.infer(v, ready[:n])
		ready = ready[n:]
	}
	for _, k := range asks {
		if k.reply.Error != nil {
			a.usage.count(model, k.user, refused, 0)
			a.countError(k)
		}
	}
}

// countError counts an error for the version that should have answered, unless
// the request came too late for it.
func (a *Agent) countError(k *ask) {
	switch {
	case k.version == nil || k.reply.Error.Code == protocol.CodeExpired:
	case k.reply.Error.Code == protocol.CodeInternal:
		a.usage.ran(k.version.name, k.version.Digest, ranBadly, 0, false)
	default:
		a.usage.ran(k.version.name, k.version.Digest, notFit, 0, false)
	}
}

// infer predicts for asks whose rows fit v, and judges the outputs. When one
// of several has values that the model refuses, each is tried alone.
func (a *Agent) infer(v *served, asks []*ask) {
	began := time.Now()
	y, err := a.compute(v, asks)
	took := time.Since(began) / time.Duration(len(asks))
	if err != nil && len(asks) > 1 {
		for _, k := range asks {
			a.infer(v, []*ask{k})
		}
		return
	}
	if err != nil {
		asks[0].reply.Error = a.predictError(v, err)
		return
	}
	timed := a.pipelines.timed(v.name)
	for i, k := range asks {
		n := len(y) / len(asks)
		k.reply.Y = y[i*n:][:n]
		k.reply.Label = v.predictor.Label(k.reply.Y)
		if anomaly, ok := v.predictor.Anomaly(k.reply.Y); ok {
			k.reply.Anomaly = &anomaly
		}
		k.reply.US = uint32(min(took.Microseconds(), math.MaxUint32))
		a.usage.count(v.name, k.user, answered, took)
		if v.reference != nil {
			a.usage.inputs.count(v, k.rows[len(k.rows)-v.predictor.Plan().Width():])
		}
		a.usage.ran(v.name, v.Digest, ranWell, took, timed)
	}
}

// compute returns the outputs of asks, one after the other.
func (a *Agent) compute(v *served, asks []*ask) ([]float32, error) {
	rows := asks[0].rows
	if len(asks) > 1 {
		rows = make([]float32, 0, len(asks)*len(rows))
		for _, k := range asks {
			rows = append(rows, k.rows...)
		}
	}
	y := make([]float32, len(asks)*v.predictor.Outputs())
	if err := v.predictor.PredictBatch(y, rows, len(asks)); err != nil {
		return nil, err
	}
	if a.cfg.Tamper != nil {
		a.cfg.Tamper(v.name, v.Digest, y)
	}
	return y, finite(y)
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

// read decodes a request and checks that it fits v and is in time.
func read(v *served, r request) (protocol.PredictRequest, *protocol.RequestError) {
	if len(r.payload) > protocol.MaxPayload {
		return protocol.PredictRequest{}, &protocol.RequestError{
			Code: protocol.CodeBadRequest, Message: "request is too large",
			Want: fmt.Sprintf("at most %d bytes", protocol.MaxPayload), Got: fmt.Sprintf("%d bytes", len(r.payload)),
		}
	}
	req, err := protocol.DecodePredictTexts(r.payload, v.features, v.predictor.Dictionaries())
	if err != nil {
		return protocol.PredictRequest{}, requestError(err)
	}
	if least, most := v.predictor.MinWindow(), v.predictor.Window(); req.Steps < least || req.Steps > most {
		want := fmt.Sprintf("%d×%d", most, len(v.features))
		if least < most {
			want = fmt.Sprintf("%d to %d rows of %d", least, most, len(v.features))
		}
		message := "wrong number of rows"
		if v.predictor.Stateful() {
			message += "; a stream model takes the last rows of the stream, which it replays from the zero state"
		}
		return protocol.PredictRequest{}, &protocol.RequestError{
			Code: protocol.CodeBadShape, Message: message,
			Want: want, Got: fmt.Sprintf("%d×%d", req.Steps, req.Features),
		}
	}
	if waited := time.Since(r.arrived); req.DeadlineMS > 0 && waited > time.Duration(req.DeadlineMS)*time.Millisecond {
		return protocol.PredictRequest{}, &protocol.RequestError{
			Code: protocol.CodeExpired, Message: "the deadline passed while the request waited",
			Want: fmt.Sprintf("%d ms", req.DeadlineMS), Got: fmt.Sprintf("%d ms", waited.Milliseconds()),
		}
	}
	return extend(v.predictor, req)
}

// extend adds to the rows of a request what the model makes of their times.
func extend(p *predictor.Predictor, req protocol.PredictRequest) (protocol.PredictRequest, *protocol.RequestError) {
	plan := p.Plan()
	if plan.Timed() && req.T == 0 {
		return req, &protocol.RequestError{
			Code: protocol.CodeBadRequest, Message: "this model reads the calendar, and the request does not say when it is",
			Want: "t: UTC ms of the last row", Got: "no t",
		}
	}
	var err error
	if req.Rows, err = plan.Extend(req.Rows, req.T); err != nil {
		return req, &protocol.RequestError{Code: protocol.CodeBadRequest, Message: clip(err.Error())}
	}
	return req, nil
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
	a.cfg.Log.Error("prediction failed", "model", v.name, "version", v.label, "err", err)
	return &protocol.RequestError{Code: protocol.CodeInternal, Message: "the prediction failed; the device's log says why"}
}

func requestError(err error) *protocol.RequestError {
	var e *protocol.RequestError
	if errors.As(err, &e) {
		return e
	}
	return &protocol.RequestError{Code: protocol.CodeBadRequest, Message: clip(err.Error())}
}
