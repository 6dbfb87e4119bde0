package agent

import (
	"math"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/agent/pipeline"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// defaultJudge is how often a device reports when the want does not say.
const defaultJudge = time.Minute

// A judged is a pair of versions being compared on the same inputs: the
// candidate, which is active, and the version it replaced, which runs beside it
// and is heard by nobody.
type judged struct {
	pairKey
	beside *predictor.Predictor // A; nil: it cannot be read, and all is skipped
	pairs  *pipeline.Pairs
	began  time.Duration
	next   time.Duration // of the report
}

// A pairKey says what is compared, for which stage.
type pairKey struct {
	stage uint32
	a, b  protocol.Digest
}

// judge begins, goes on with, or ends what the newest want says about r.
func (p *pipelines) judge(r *running) {
	s := p.agent.snapshot.Load()
	j, rollout := s.Judge, s.Models[r.name]
	if j == nil || j.Model != r.name || p.agent.clock().UnixMilli() > j.Until ||
		rollout.Previous.none() || rollout.Active.Digest != r.Digest {
		r.judged = nil
		r.feed.Beside(nil)
		return
	}
	key := pairKey{j.Stage, rollout.Previous.Digest, r.Digest}
	if r.judged == nil || r.judged.pairKey != key {
		r.judged = p.beginPair(r, key, *j)
	}
	r.feed.Beside(r.judged.beside)
}

// beginPair opens the version that was in place.
func (p *pipelines) beginPair(r *running, key pairKey, j protocol.Judge) *judged {
	out := &judged{
		pairKey: key, began: p.now(), next: p.now() + every(j),
		pairs: pipeline.NewPairs(r.predictor.OutStd(), len(r.predictor.Schema().Targets), r.feed.Arrives()),
	}
	var err error
	if out.beside, err = p.agent.openSlot(slot{r.name, key.a}); err != nil {
		p.agent.cfg.Log.Error("the version in place before cannot be judged beside the candidate", "model", r.name, "err", err)
	}
	return out
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

// compare takes what one stream had at a tick.
func (j *judged) compare(result pipeline.Result, wall int64, tick uint64, arrives bool, now time.Duration) {
	if arrives {
		j.pairs.Arrived(result.Stream, tick, result.Truth, j.seconds(now))
	}
	if result.Y[0] != nil || result.Y[1] != nil || result.Err[0] != nil || result.Err[1] != nil {
		j.pairs.Add(result.Stream, wall, tick, result.Y[1], result.Y[0])
	}
}

// label takes a truth about r's predictions.
func (p *pipelines) label(r *running, payload []byte) error {
	var m protocol.Truth
	if err := m.UnmarshalBinary(payload); err != nil {
		return err
	}
	if r.judged != nil && m.Stream != "" {
		r.judged.pairs.Label(m.Stream, m.T, m.Y, r.judged.seconds(p.now()))
	}
	return nil
}

// tellQuality reports the sums of r when it is time, and looks whether the
// stage is over.
func (p *pipelines) tellQuality(r *running, now time.Duration) {
	if r.judged == nil || now < r.judged.next {
		return
	}
	a := p.agent
	q := r.judged.pairs.Sums()
	q.Stage, q.Boot = r.judged.stage, uint32(a.boot.Load())
	q.A, q.B = [8]byte(r.judged.a[:8]), [8]byte(r.judged.b[:8])
	if b, err := q.AppendBinary(nil); err != nil {
		a.cfg.Log.Error("encode quality", "err", err)
	} else {
		p.publish(link.Message{Topic: protocol.QualityTopic(a.cfg.Fleet, a.cfg.Device), Payload: b})
	}
	if j := a.snapshot.Load().Judge; j != nil {
		r.judged.next = now + every(*j)
	}
	p.judge(r)
}
