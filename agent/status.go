package agent

import (
	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Status is what an agent says about itself, for people and scripts.
type Status struct {
	Device    string                 `json:"device"`
	Fleet     string                 `json:"fleet"`
	Agent     string                 `json:"agent"`  // its version
	Kernel    string                 `json:"kernel"` // tier
	ABI       int                    `json:"abi"`    // of the kernel
	Protocol  string                 `json:"protocol"`
	Boot      uint64                 `json:"boot"`
	Running   bool                   `json:"running"`
	Connected bool                   `json:"connected"`
	Link      string                 `json:"link,omitempty"`     // why not connected
	Storage   string                 `json:"storage,omitempty"`  // what is wrong with the disk
	Findings  []protocol.Finding     `json:"findings,omitempty"` // what the broker does not do
	Epoch     uint64                 `json:"epoch"`
	Rev       uint64                 `json:"rev"`
	Models    map[string]ModelStatus `json:"models"`
}

// A ModelStatus is the state of one model.
type ModelStatus struct {
	Version     string               `json:"version"` // NAME:vN, or empty
	Digest      protocol.Digest      `json:"digest,omitzero"`
	Previous    string               `json:"previous,omitempty"` // NAME:vN
	Candidate   protocol.Digest      `json:"candidate,omitzero"` // being fetched
	Shadow      *protocol.ShadowHave `json:"shadow,omitempty"`   // wanted beside the active one
	Waiting     string               `json:"waiting,omitempty"`  // why fetching it does not go on
	Phase       string               `json:"phase"`
	Serving     string               `json:"serving,omitempty"` // what answers now, NAME:vN
	Floor       uint64               `json:"floor,omitempty"`
	Failed      *protocol.Failure    `json:"failed,omitempty"`
	Hold        string               `json:"hold,omitempty"`             // pinned, rolled_back: why it does not follow the control plane
	Predictions uint64               `json:"predictions"`                // answered since the start
	Quality     *QualityStatus       `json:"quality,omitempty"`          // of the active version, since the start
	Unmatched   uint64               `json:"labels_unmatched,omitempty"` // labels that no output waited for
	Pipeline    *PipelineStatus      `json:"pipeline,omitempty"`
}

// ProtocolName is the protocol that this agent speaks.
const ProtocolName = "sp1"

// Status returns the state of the agent as of now.
func (a *Agent) Status() Status {
	s := a.snapshot.Load()
	out := Status{
		Device: a.cfg.Device, Fleet: a.cfg.Fleet, Agent: a.cfg.Version,
		Kernel: kernel.Tier(), ABI: kernel.ABI, Protocol: ProtocolName,
		Boot: a.boot.Load(), Running: a.running.Load(), Connected: a.link.Up(), Link: a.link.Reason(),
		Storage: *a.problem.Load(), Findings: a.network.list(), Epoch: s.Epoch, Rev: s.Rev, Models: make(map[string]ModelStatus),
	}
	have := a.have()
	for name, r := range s.Models {
		h := have.Models[name]
		m := ModelStatus{
			Version: h.Version, Digest: h.Active, Previous: r.Previous.version(name), Candidate: h.Candidate,
			Phase: h.Phase, Floor: r.Floor, Failed: h.Failed, Shadow: h.Shadow, Hold: h.Hold, Predictions: a.usage.predictions(name),
			Quality: a.usage.quality(name, h.Active),
		}
		if why, ok := a.waiting.Load(name); ok {
			m.Waiting = why.(string)
		}
		if v := a.models.get(name); v != nil {
			m.Serving = v.label
		}
		if all := a.pipelines.status.Load(); all != nil {
			m.Pipeline, m.Unmatched = (*all)[name].pipeline, (*all)[name].unmatched
		}
		out.Models[name] = m
	}
	return out
}

// quota is the size of the cache, bytes.
func (a *Agent) quota() int64 {
	if a.cfg.QuotaBytes > 0 {
		return a.cfg.QuotaBytes
	}
	return store.DefaultQuota
}

// free is what the data folder may still take, bytes: the quota, or the disk
// when that has less.
func (a *Agent) free() uint64 {
	free := uint64(a.quota()) - min(uint64(a.quota()), uint64(a.files.Size()))
	if disk, ok := store.DiskFree(a.cfg.DataDir); ok {
		free = min(free, disk)
	}
	return free
}
