package api

import (
	"net"
	"os"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
)

func TestPeerUID(t *testing.T) {
	dir := t.TempDir()
	ln, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := dialSocket(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if uid, ok := peerUID(server.(*net.UnixConn)); !ok || uid != uint32(os.Getuid()) {
		t.Errorf("peer is uid %d (%v), want %d", uid, ok, os.Getuid())
	}
	// The peer's word counts, not who this process is.
	if ctx := withPeer(t.Context(), server); audit.Who(ctx) == audit.ControlPlane {
		t.Error("a connection of the socket has no caller")
	}
	if got := userName(1<<32 - 2); got != "uid 4294967294" {
		t.Errorf("user without a name: %q", got)
	}
}
