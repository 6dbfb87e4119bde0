package agent

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	mqttclient "github.com/sandpiper-edge/sandpiper/protocol/client"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// A ledger is what a control plane would store of a device's reports.
type ledger struct {
	w      *world
	seen   int // messages read
	usage  map[uint64]protocol.Usage
	events map[[2]uint64]string
	twice  int // reports that came more than once
}

func (w *world) ledger() *ledger {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &ledger{w: w, seen: len(w.log), usage: make(map[uint64]protocol.Usage), events: make(map[[2]uint64]string)}
}

// read takes in what came since the last call and returns an acknowledgement
// for each report.
func (l *ledger) read() (acks []protocol.Ack) {
	l.w.mu.Lock()
	log := l.w.log[l.seen:]
	l.seen = len(l.w.log)
	l.w.mu.Unlock()
	for _, pk := range log {
		switch pk.TopicName {
		case protocol.UsageTopic("f", "d1"):
			var u protocol.Usage
			if err := u.UnmarshalBinary(pk.Payload); err != nil {
				l.w.t.Fatal(err)
			}
			if old, known := l.usage[u.Boot]; !known || old.Seq < u.Seq {
				l.usage[u.Boot] = u
			} else {
				l.twice++
			}
			acks = append(acks, protocol.Ack{Boot: u.Boot, Seq: u.Seq, Usage: true})
		case protocol.EventTopic("f", "d1"):
			var e protocol.Event
			if err := e.UnmarshalBinary(pk.Payload); err != nil {
				l.w.t.Fatal(err)
			}
			k := [2]uint64{e.Boot, e.Seq}
			if l.events[k] != "" {
				l.twice++
			}
			l.events[k] = e.Kind
			acks = append(acks, protocol.Ack{Boot: e.Boot, Seq: e.Seq})
		}
	}
	return acks
}

func (l *ledger) acknowledge(acks []protocol.Ack) {
	l.w.t.Helper()
	for _, a := range acks {
		if err := l.w.server.Publish(protocol.AckTopic("f", "d1"), l.w.encode(a), false, 1); err != nil {
			l.w.t.Fatal(err)
		}
	}
	settle()
}

// answered adds up the answers of every start, by user.
func (l *ledger) answered() string {
	sums := make(map[string]uint64)
	for _, u := range l.usage {
		for _, c := range u.Counts {
			sums[c.User] += c.Answered
			sums[c.User+" refused"] += c.Refused
		}
	}
	return fmt.Sprintf("ann %d, %d refused; local %d", sums["ann"], sums["ann refused"], sums["local"])
}

// TestADayOffline serves a day without a way to the broker, through restarts
// and a new version from a file. Every request is answered, and when the link
// is back, every usage record and every event is told once.
func TestADayOffline(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		book := w.ledger()
		w.down.Store(true)
		w.cut()
		w.server.Close() // it would count every second of the day

		var l *packettest.Listener
		var c *mqttclient.Client
		var d *device
		restart := func() {
			if d != nil {
				d.stop()
				c.Close()
			}
			d = w.start(dir, func(c *Config) { l = onsite(c) })
			c = w.localClient(l, "ann")
		}
		restart()
		serving := v1
		asked := 0
		for minute := 0; minute < 24*60; minute += 5 {
			switch {
			case minute == 3*60:
				if _, err := d.Install(t.Context(), bytes.NewReader(fileOf(w, v2))); err != nil {
					t.Fatal(err)
				}
				serving = v2
			case minute%(4*60) == 2*60:
				restart()
			}
			b, err := c.Ask(t.Context(), "d1", "pump", []byte(testRequest))
			if err != nil {
				t.Fatal(err)
			}
			d.checkReply(b, serving)
			d.answers(serving)
			asked++
			if minute%60 == 0 {
				if b, err = c.Ask(t.Context(), "d1", "pump", []byte("[[1]]")); err != nil || replyCode(t, b) != protocol.CodeBadShape {
					t.Fatalf("a bad request: %s, %v", b, err)
				}
			}
			pass(5 * time.Minute)
		}
		if n := len(w.published(protocol.UsageTopic("f", "d1"))); n != 0 {
			t.Fatalf("%d reports without a link", n)
		}

		w.startBroker()
		w.down.Store(false)
		pass(2 * time.Minute) // the longest backoff
		acks := book.read()
		if got, want := book.answered(), fmt.Sprintf("ann %d, 24 refused; local %d", asked, asked); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		kinds := make(map[string]int)
		for _, k := range book.events {
			kinds[k]++
		}
		if kinds["activated"] != 2 || kinds["confirmed"] != 2 || book.twice != 0 {
			t.Errorf("told events %v, and %d reports twice", kinds, book.twice)
		}

		// The control plane fails before it has stored them, and the link with it.
		w.cut()
		pass(2 * time.Minute)
		if again := book.read(); len(again) != len(acks) || book.twice != len(acks) {
			t.Errorf("%d reports come again of %d that nobody acknowledged", len(again), len(acks))
		}
		book.acknowledge(acks)
		restart()
		pass(2 * time.Minute)
		if rest := book.read(); len(rest) != 1 || rest[0].Boot != d.Status().Boot-1 {
			t.Errorf("after the acknowledgements come %+v, want the last start's record alone", rest)
		}
		if got, want := book.answered(), fmt.Sprintf("ann %d, 24 refused; local %d", asked, asked); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

// TestControlPlaneThatComesBackIsToldAgain: on a broker of its own the
// connection stands while the control plane is away.
func TestControlPlaneThatComesBackIsToldAgain(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.installed(t.TempDir(), w.version(1))
		c := w.client()
		book := w.ledger()
		book.seen = 0
		c.send("1", testRequest, 0)
		pass(2 * time.Minute)
		first := book.read() // and nobody stores it
		if len(first) != 3 { // activated, confirmed, usage
			t.Fatalf("told %+v", first)
		}
		pass(2 * time.Hour)
		if more := book.read(); len(more) != 0 {
			t.Errorf("told %+v while nothing happened", more)
		}
		state := func(online bool) {
			b := w.encode(protocol.State{Format: 1, Online: online, Min: 1, Max: 1})
			w.retain(protocol.StateTopic("f"), b)
			settle()
		}
		state(false)
		if more := book.read(); len(more) != 0 {
			t.Errorf("told %+v to nobody", more)
		}
		state(true)
		again := book.read()
		if len(again) != 3 || book.twice != 3 {
			t.Errorf("told %+v again, want %+v", again, first)
		}
		book.acknowledge(again)
		state(true)
		if more := book.read(); len(more) != 0 {
			t.Errorf("told %+v after it was acknowledged", more)
		}
		d.answers(w.version(1))
	})
}

// TestUsageOfManyStartsIsBounded keeps the newest and says what it gave up.
func TestUsageOfManyStartsIsBounded(t *testing.T) {
	var stored []byte
	var lost []uint64
	for boot := uint64(1); boot <= maxEarlier+3; boot++ {
		u := newUsage()
		lost = append(lost, u.restore(boot, stored)...)
		u.count("pump", "ann", answered, time.Microsecond)
		b, err := u.record(time.Unix(1, 0))
		if err != nil || b == nil {
			t.Fatalf("record = %v, %v", b, err)
		}
		if stored = b; boot == 5 {
			stored = stored[:len(stored)-1] // damaged, or of another version: the rest is kept
		}
	}
	u := newUsage()
	lost = append(lost, u.restore(1000, stored)...)
	if fmt.Sprint(lost) != "[1 2]" {
		t.Errorf("gave up the counters of %v, want those of the two oldest starts", lost)
	}
	u.again()
	got := u.unsent()
	if len(got) != maxEarlier || got[0].boot != 3 || got[len(got)-1].boot != maxEarlier+3 {
		t.Errorf("%d records from %d to %d", len(got), got[0].boot, got[len(got)-1].boot)
	}
}
