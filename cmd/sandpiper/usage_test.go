package main

import (
	"context"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// countUsage hands the control plane a device's report, without a server:
// countusage DIR DEVICE USER MODEL ANSWERED.
func countUsage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: countusage DIR DEVICE USER MODEL ANSWERED")
	}
	answered, err := strconv.ParseUint(args[4], 10, 64)
	ts.Check(err)
	c, err := controlplane.Open(context.Background(), controlplane.Config{Dir: ts.MkAbs(args[0])})
	ts.Check(err)
	defer func() { ts.Check(c.Close()) }()
	// A start of its own for each user, so that reports need no number.
	b, err := protocol.Usage{Format: protocol.Format, Boot: uint64(len(args[2]) + int(args[2][0])), Seq: 1, Counts: []protocol.UsageCount{
		{Model: args[3], User: args[2], Answered: answered, Micros: 10 * answered},
	}}.AppendBinary(nil)
	ts.Check(err)
	ts.Check(c.Rollout.Handle(context.Background(), rollout.Report{Device: args[1], Kind: protocol.TopicUsage, Payload: b}))
}
