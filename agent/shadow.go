package agent

import "github.com/sandpiper-edge/sandpiper/protocol"

// A shadow is a version that is wanted beside the active one. It is obtained
// and verified as if it were to be activated, while nothing else is under way
// for its model, and kept in the candidate's slot: a want that makes it active
// finds it there. Whatever becomes of it, the active version does not notice.

// answeredBy reports whether f is the answer to w: it is not tried again.
func (w wanted) answeredBy(f *failure) bool {
	return f != nil && f.Digest == w.Digest && !newer(w.Epoch, w.Rev, f.Epoch, f.Rev)
}

// shadowed reports whether the shadow that is wanted is in its slot.
func (r *rollout) shadowed() bool { return !r.Beside.none() && r.Beside.Digest == r.Shadow.Digest }

// wantShadow takes what the newest want, which is in d.Want, says about a
// shadow; nil, or the wanted version itself, ends it. When it may be activated
// matters not: it is not. What the candidate's slot holds stays if it is this
// shadow, or to be activated.
func (d *decision) wantShadow(v *protocol.WantedVersion) {
	var w wanted
	if v != nil && v.Digest != d.Want.Digest {
		w = wanted{Digest: v.Digest, Epoch: d.Want.Epoch, Rev: d.Want.Rev, Transfers: v.Transfers, JitterS: d.Want.JitterS}
	}
	if d.shadowMissing() && d.Phase != fetching && d.Shadow.Digest != w.Digest && d.Shadow.Digest != d.Want.Digest {
		d.do(doAbort)
	}
	d.Shadow, d.ShadowFailed = w, nil // asked for again, so it is tried again
	d.tidyShadow()
}

// tidyShadow empties the candidate's slot of what nobody wants there any more.
func (d *decision) tidyShadow() {
	if d.Beside.Digest == d.Active.Digest || !d.shadowed() && d.Beside.Digest != d.Want.Digest {
		d.Beside = held{}
	}
}

// shadowMissing reports whether a shadow is wanted that is not in its slot, is
// not what answers, and has not failed for this want.
func (r *rollout) shadowMissing() bool {
	return !r.Shadow.Digest.IsZero() && r.Shadow.Digest != r.Active.Digest && !r.shadowed() && !r.Shadow.answeredBy(r.ShadowFailed)
}

// pursueShadow goes after the wanted shadow if it is missing and nothing else
// is under way.
func (d *decision) pursueShadow() {
	if d.Phase == idle && d.shadowMissing() {
		d.effects = append(d.effects, effect{kind: doShadow, model: d.model, want: d.Shadow})
	}
}

// keepShadow puts e's version into the candidate's slot. One that is to be
// activated meanwhile is obtained once more, from there: that says when.
func (d *decision) keepShadow(e event) {
	switch {
	case d.Phase == fetching && d.Want.Digest == e.held.Digest:
		d.Beside = e.held
		d.do(doAbort) // of what has just ended
		d.do(doObtain)
	case d.shadowMissing() && d.Shadow.Digest == e.held.Digest:
		d.Beside = e.held
		d.tell(toldShadow, e.held, e.message)
		d.do(doReport)
	}
}

// refuseShadow remembers why the shadow cannot be used, for this want. One that
// is to be activated meanwhile gets its own attempt.
func (d *decision) refuseShadow(e event) {
	switch {
	case d.Phase == fetching && d.Want.Digest == e.held.Digest:
		d.do(doAbort)
		d.do(doObtain)
	case d.shadowMissing() && d.Shadow.Digest == e.held.Digest:
		d.ShadowFailed = &failure{
			Digest: e.held.Digest, Epoch: d.Shadow.Epoch, Rev: d.Shadow.Rev, Code: e.code, Message: e.message,
		}
		d.tell(toldRefused, e.held, "as shadow: "+e.code+": "+e.message)
		d.do(doReport)
	}
}

// loseShadow forgets the candidate's slot, which cannot be read, and gets what
// was in it once more.
func (d *decision) loseShadow(e event) {
	d.tell(toldLost, d.Beside, e.message)
	d.Beside = held{}
	d.do(doReport)
	d.pursueShadow()
}

// shadowHave is what is reported of the shadow; nil: none is wanted.
func (r *rollout) shadowHave(model string) *protocol.ShadowHave {
	if r.Shadow.Digest.IsZero() {
		return nil
	}
	out := &protocol.ShadowHave{Digest: r.Shadow.Digest, Phase: protocol.PhaseFetching}
	switch f := r.ShadowFailed; {
	case r.shadowed():
		out.Phase, out.Version = protocol.PhaseReady, r.Beside.version(model)
	case r.Shadow.Digest == r.Active.Digest:
		out.Phase, out.Version = protocol.PhaseReady, r.Active.version(model)
	case f != nil:
		out.Phase, out.Failed = protocol.PhaseFailed, f.report()
	}
	return out
}

// report is f as `have` says it; nil for none.
func (f *failure) report() *protocol.Failure {
	if f == nil {
		return nil
	}
	return &protocol.Failure{Digest: f.Digest, Epoch: f.Epoch, Rev: f.Rev, Code: f.Code, Message: f.Message}
}
