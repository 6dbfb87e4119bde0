package agent

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/agent/pipeline"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// defaultJudge is how often a device reports when the want does not say.
	defaultJudge = time.Minute
	// Bounds of the requests that wait to be run on the version beside the active
	// one; one more is skipped. Their values are 256 KiB at most.
	overheardWaiting = 256
	overheardValues  = protocol.MaxWindowValues
)

// A judged is a model whose outputs are compared with the truth: those of two
// versions on the same inputs while the want says so, of which callers see the
// active one only, and else those of the active one alone.
type judged struct {
	pairKey
	shadow bool                 // B is the shadow; else B is active, and A beside it is what it replaced
	beside *predictor.Predictor // the one that is not active; nil: it cannot be read, and its outputs are missing
	opened protocol.Digest      // what beside is, or should be
	sums   *pipeline.Sums
	fed    *pipeline.Pairs // outputs of the pipeline
	asked  *pipeline.Pairs // outputs of requests
	began  time.Duration
	next   time.Duration // of the report

	skipped atomic.Uint32 // requests that found the queue full
}

// A pairKey says what is compared, for which stage; without A, B alone is
// measured.
type pairKey struct {
	stage uint32
	a, b  protocol.Digest
}

func (k pairKey) pair() bool { return !k.a.IsZero() }

// active is the version that answers.
func (j *judged) active() protocol.Digest {
	if j.shadow {
		return j.a
	}
	return j.b
}

// pairOf says what the state wants compared of a model whose active version
// answers: that and the version in the candidate's slot, or, if no other version
// is wanted, what it replaced and that. What is judged until then goes on while
// a shadow is being activated.
func (s *state) pairOf(model string, now time.Time) (key pairKey, shadow bool) {
	r, j := s.Models[model], s.Judge
	alone := pairKey{b: r.Active.Digest}
	switch {
	case j == nil || j.Model != model || now.UnixMilli() > j.Until:
		return alone, false
	case !r.Beside.none():
		return pairKey{j.Stage, r.Active.Digest, r.Beside.Digest}, true
	case !r.Shadow.Digest.IsZero() || r.Want.Digest != r.Active.Digest || r.Previous.none():
		return alone, false
	}
	return pairKey{j.Stage, r.Previous.Digest, r.Active.Digest}, false
}

// judge begins, goes on with, or ends what the newest want says about r.
func (p *pipelines) judge(r *running) {
	s := p.agent.snapshot.Load()
	key, shadow := s.pairOf(r.name, p.agent.clock())
	if s.Models[r.name].Active.Digest != r.Digest { // it is about to be swapped
		if r.judged != nil && r.judged.active() == r.Digest {
			return
		}
		key, shadow = pairKey{b: r.Digest}, false
	}
	if r.judged == nil || r.judged.pairKey != key {
		p.compareAnew(r, key, s.Judge)
	}
	j := r.judged
	j.shadow = shadow
	p.openBeside(r)
	if r.feed != nil {
		r.feed.Beside(j.beside)
	}
	p.listen()
}

// compareAnew puts what is compared from now on in the place of what was. Sums
// of a pair that comes back go on: they are cumulative for its stage.
func (p *pipelines) compareAnew(r *running, key pairKey, j *protocol.Judge) {
	next := r.ended
	if next == nil || next.pairKey != key {
		next = &judged{pairKey: key, began: p.now(), sums: pipeline.NewSums(r.predictor.OutStd(), r.predictor.Outputs())}
		next.sums.Told = func(lane int, e, naive float64) {
			p.agent.usage.scored(r.name, [2]protocol.Digest{key.a, key.b}[lane], e, naive)
		}
	}
	if key.pair() {
		next.next = p.now() + every(*j)
	}
	if old := r.judged; old != nil && old.pair() {
		old.beside, old.opened, old.fed, old.asked = nil, protocol.Digest{}, nil, nil // its sums are all that is kept
		r.ended = old
	}
	next.asked = pipeline.NewPairs(next.sums, 1, false)
	r.judged = next
	r.waitFed()
}

// waitFed makes the memory of the pipeline's outputs anew.
func (r *running) waitFed() {
	r.judged.fed = pipeline.NewPairs(r.judged.sums, len(r.predictor.Schema().Targets), r.feed != nil && r.feed.Arrives())
}

// openBeside opens the version that runs beside the active one.
func (p *pipelines) openBeside(r *running) {
	j := r.judged
	var d protocol.Digest
	if j.pair() {
		d = j.a
		if j.shadow {
			d = j.b
		}
	}
	if j.opened == d {
		return
	}
	j.opened, j.beside = d, nil
	if d.IsZero() {
		return
	}
	beside, err := p.agent.openSlot(slot{r.name, d})
	switch {
	case err != nil:
		p.agent.cfg.Log.Error("version cannot be judged beside the active one", "model", r.name, "digest", d.Short(), "err", err)
	case !pipeline.Fits(r.predictor, beside):
		p.agent.cfg.Log.Error("version does not read and say what the active one does; it cannot be judged", "model", r.name, "digest", d.Short())
	default:
		j.beside = beside
	}
	if !j.shadow && j.beside != nil { // as before the swap: errors are in A's deviations
		j.sums.Std = pipeline.NewSums(beside.OutStd(), beside.Outputs()).Std
	}
}

func every(j protocol.Judge) time.Duration {
	if j.EveryS == 0 {
		return defaultJudge
	}
	return time.Duration(j.EveryS) * time.Second
}

// seconds is the time since the stage began here.
func (j *judged) seconds(now time.Duration) uint32 {
	return uint32(min((now-j.began)/time.Second, math.MaxUint32))
}

// said takes what the active version and the one beside it said about an input.
func (j *judged) said(active, beside []float32) [2][]float32 {
	if j.shadow {
		return j.sums.Said(active, beside)
	}
	return j.sums.Said(beside, active)
}

// compare takes what one stream had at a tick.
func (p *pipelines) compare(r *running, result pipeline.Result, wall int64, now time.Duration) {
	j, arrives := r.judged, r.feed.Arrives()
	if arrives {
		j.fed.Arrived(result.Stream, r.tick, result.Truth, j.seconds(now))
	}
	if j.beside != nil && (result.Y[1] != nil || result.Err[1] != nil) {
		p.ranBeside(r, result.Y[1], result.Took[1], result.Err[1])
	}
	if result.Y[0] == nil && result.Y[1] == nil && result.Err[0] == nil && result.Err[1] == nil {
		return
	}
	y := j.said(result.Y[0], result.Y[1])
	switch name := (pipeline.Name{Stream: result.Stream, T: wall}); {
	case arrives:
		j.fed.Add(name, r.tick, y, result.Truth)
	case j.pair() || r.labelled:
		j.fed.Add(name, r.tick, y, nil)
	}
}

// ranBeside counts what the version beside the active one made of an input.
func (p *pipelines) ranBeside(r *running, y []float32, took time.Duration, err error) {
	a := p.agent
	if err == nil {
		if a.cfg.Tamper != nil {
			a.cfg.Tamper(r.name, r.judged.opened, y)
		}
		err = finite(y)
	}
	a.usage.ran(r.name, r.judged.opened, verdictOf(err), took, true)
}

// An overheard is a request that was answered.
type overheard struct {
	version *served
	name    pipeline.Name
	rows, y []float32
}

// listen tells overhear whose requests are of use: those of models that are
// judged, and of those that labels came for.
func (p *pipelines) listen() {
	next := make(map[string]*judged)
	for name, r := range p.feeds {
		if r.judged != nil && (r.judged.pair() || r.labelled) {
			next[name] = r.judged
		}
	}
	p.listening.Store(&next)
}

// judges returns what model's requests are compared in; nil: nothing.
func (p *pipelines) judges(model string) *judged {
	if all := p.listening.Load(); all != nil {
		return (*all)[model]
	}
	return nil
}

// timed reports whether the time that predictions of model take is kept.
func (p *pipelines) timed(model string) bool {
	j := p.judges(model)
	return j != nil && j.pair()
}

// overhear takes requests whose replies are under way; it does not block. What
// the queue has no room for is skipped.
func (p *pipelines) overhear(asks []*ask) {
	for _, k := range asks {
		if k.version == nil || k.rows == nil || k.reply.Error != nil && k.reply.Error.Code != protocol.CodeInternal {
			continue
		}
		j := p.judges(k.version.name)
		if j == nil {
			continue
		}
		o := overheard{version: k.version, rows: k.rows, y: k.reply.Y, name: pipeline.Name{Stream: k.stream, T: k.t, User: k.user, Corr: k.id}}
		values := int64(len(o.rows))
		if p.overheardValues.Add(values) <= overheardValues {
			select {
			case p.overheard <- o:
				continue
			default:
			}
		}
		p.overheardValues.Add(-values)
		j.skipped.Add(1)
	}
}

// weigh runs the version beside the active one on a request, and keeps what both
// said until a label comes.
func (p *pipelines) weigh(o overheard) {
	p.overheardValues.Add(-int64(len(o.rows)))
	r := p.feeds[o.version.name]
	if r == nil || r.judged == nil {
		return
	}
	j := r.judged
	if r.Digest != o.version.Digest { // another version has come to answer meanwhile
		j.sums.Skip(1)
		return
	}
	var beside []float32
	if j.beside != nil {
		began := time.Now()
		y := make([]float32, j.beside.Outputs())
		err := j.beside.PredictBatch(y, o.rows, 1)
		p.ranBeside(r, y, time.Since(began), err)
		if err == nil {
			beside = y
		}
	}
	y := j.said(o.y, beside)
	if j.pair() || r.labelled {
		j.asked.Add(o.name, 0, y, nil)
	}
}

// label takes a truth about r's outputs. From the first one on they are kept for
// labels although nothing is judged.
func (p *pipelines) label(r *running, payload []byte) error {
	var m protocol.Truth
	if err := m.UnmarshalBinary(payload); err != nil {
		return err
	}
	if !r.labelled {
		r.labelled = true
		p.listen()
	}
	j, now := r.judged, p.now()
	if j == nil {
		return nil
	}
	name := pipeline.Name{Stream: m.Stream, T: m.T, User: m.User, Corr: m.Corr}
	if !j.fed.Label(name, m.Y, j.seconds(now)) && !j.asked.Label(name, m.Y, j.seconds(now)) {
		r.unmatched++
	}
	return nil
}

// tellQuality reports the sums of r when it is time, and looks whether the
// stage is over.
func (p *pipelines) tellQuality(r *running, now time.Duration) {
	j := r.judged
	if j == nil || !j.pair() || now < j.next {
		return
	}
	a := p.agent
	j.sums.Skip(j.skipped.Swap(0))
	q := j.sums.Quality()
	q.Stage, q.Boot = j.stage, uint32(a.boot.Load())
	q.A, q.B = [8]byte(j.a[:8]), [8]byte(j.b[:8])
	if j.shadow {
		q.Flags |= protocol.QualityShadow
	}
	if b, err := q.AppendBinary(nil); err != nil {
		a.cfg.Log.Error("encode quality", "err", err)
	} else {
		p.publish(outbound{fleeting: true, Message: link.Message{Topic: protocol.QualityTopic(a.cfg.Fleet, a.cfg.Device), Payload: b}})
	}
	j.next = now + defaultJudge
	if judge := a.snapshot.Load().Judge; judge != nil {
		j.next = now + every(*judge)
	}
	p.judge(r)
}
