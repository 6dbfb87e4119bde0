package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func ask1(user, corr string, size int) request {
	return request{topic: protocol.Topic{Model: "pump", User: user, Corr: corr}, payload: make([]byte, size)}
}

func corrs(rs []request) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.topic.User+r.topic.Corr)
	}
	return strings.Join(out, " ")
}

func TestClientsAreServedInTurn(t *testing.T) {
	q := newQueue(16)
	for i := range 6 {
		q.put(ask1("a", fmt.Sprint(i), 10))
	}
	q.put(ask1("b", "0", 10))
	q.put(ask1("b", "1", 10))
	fan := ask1("c", "0", 10)
	fan.topic.Model = "fan"
	q.put(fan)
	q.put(ask1("c", "1", 10))
	for i, want := range []string{"a0 b0 a1 b1", "c0", "a2 c1 a3 a4", "a5", ""} {
		if got := corrs(q.take(4)); got != want {
			t.Errorf("take %d = %q, want %q", i, got, want)
		}
	}
}

func TestGreediestClientGivesWay(t *testing.T) {
	q := newQueue(4)
	for i := range 6 {
		if out := corrs(q.put(ask1("a", fmt.Sprint(i), 10))); out != map[bool]string{true: fmt.Sprint("a", i)}[i >= 4] {
			t.Errorf("request %d: %q gives way", i, out)
		}
	}
	for i, want := range []string{"a3", "a2", "b2", "b3"} {
		if out := corrs(q.put(ask1("b", fmt.Sprint(i), 10))); out != want {
			t.Errorf("request %d of the second client: %q gives way, want %q", i, out, want)
		}
	}
	// One of three places makes room for itself at the expense of those with as many.
	if out := corrs(q.put(ask1("c", "0", 2*placeBytes))); out != "c0" {
		t.Errorf("a request larger than everyone's: %q gives way, want c0", out)
	}
	if got := corrs(q.take(8)); got != "a0 b0 a1 b1" {
		t.Errorf("waiting %q", got)
	}
	if out := q.put(ask1("c", "0", protocol.MaxPayload)); len(out) != 0 {
		t.Errorf("the largest request alone gives way: %q", corrs(out))
	}
}

// TestQueueLosesNothing holds the queue to its rules over random operations.
func TestQueueLosesNothing(t *testing.T) {
	const limit = 12
	q := newQueue(limit)
	rng := rand.New(rand.NewPCG(1, 2))
	waiting := map[string][]string{} // by client, oldest first
	forget := func(r request, newest bool) {
		mine := waiting[r.topic.User]
		i := 0
		if newest {
			i = len(mine) - 1
		}
		if len(mine) == 0 || mine[i] != r.topic.Corr {
			t.Fatalf("request %s%s left the queue, where %v wait", r.topic.User, r.topic.Corr, mine)
		}
		waiting[r.topic.User] = slices.Delete(mine, i, i+1)
	}
	for i := range 5000 {
		if rng.IntN(3) > 0 {
			r := ask1(string(rune('a'+rng.IntN(5))), fmt.Sprint(i), rng.IntN(3*placeBytes))
			waiting[r.topic.User] = append(waiting[r.topic.User], r.topic.Corr)
			for _, out := range q.put(r) {
				forget(out, true)
			}
		} else {
			for _, r := range q.take(1 + rng.IntN(4)) {
				forget(r, false)
			}
		}
		taken, lines := 0, 0
		for _, l := range q.turn {
			for _, r := range l.requests {
				taken += places(r)
			}
			lines++
			if q.lines[l.client] != l || len(l.requests) != len(waiting[l.client]) {
				t.Fatalf("step %d: client %s has %s, want %v", i, l.client, corrs(l.requests), waiting[l.client])
			}
		}
		if taken != q.taken || taken > limit || lines != len(q.lines) {
			t.Fatalf("step %d: %d places in %d lines, counted %d in %d, at most %d", i, taken, lines, q.taken, len(q.lines), limit)
		}
	}
}

// TestGreedyClientDoesNotStarveOthers floods the queue while the model is busy.
func TestGreedyClientDoesNotStarveOthers(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		goOn := make(chan struct{})
		d := w.start(dir, func(c *Config) {
			c.QueueLen = 16
			c.Tamper = func(string, protocol.Digest, []float32) { <-goOn }
		})
		greedy, polite := w.clientOf("u1"), w.clientOf("u2")
		for i := range 100 {
			greedy.send(fmt.Sprint(i), testRequest, 0)
			settle()
		}
		settle()
		for i := range 3 {
			polite.send(fmt.Sprint(i), testRequest, 0)
		}
		settle()
		turns := 1 + 3*2 // the one inside, and then each client in its turn
		if batches(kernel.Tier()) {
			turns = 1 + 2 // batches of at most eight
		}
		for range turns {
			goOn <- struct{}{}
			settle()
		}
		for i := range 3 {
			if got := polite.got(fmt.Sprint(i)); len(got) != 1 {
				t.Errorf("request %d of the polite client has %d answers", i, len(got))
			} else {
				d.checkReply(got[0], v)
			}
		}
		close(goOn)
		settle()
		busy := 0
		for i := range 100 {
			if replyCode(t, greedy.got(fmt.Sprint(i))[0]) == protocol.CodeBusy {
				busy++
			}
		}
		if want := 100 - 1 - 16 + 3; busy != want {
			t.Errorf("the greedy client was told busy %d times, want %d", busy, want)
		}
	})
}

// TestWaitingRequestsAreComputedTogether mixes good requests of several
// clients with one that is late and, the second time, one that the model
// refuses, for which all others of its batch are computed alone.
func TestWaitingRequestsAreComputedTogether(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		var sizes []int // of the computations; owned by the worker
		c := w.config(dir)
		c.Tamper = func(_ string, _ protocol.Digest, y []float32) {
			sizes = append(sizes, len(y))
			time.Sleep(10 * time.Millisecond)
		}
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		a.batches = true
		d := w.run(a)
		clients := []*client{w.clientOf("u1"), w.clientOf("u2"), w.clientOf("u3")}
		for _, round := range []struct{ far, want string }{
			{"", "[1 7]"},
			{`[[10,3],[11,1e30],[12,3.2],[13,3.25]]`, "[1 1 1 1 1 1 1 1]"},
		} {
			sizes = nil
			corr := func(i int) string { return fmt.Sprintf("%d-%d", len(round.far), i) }
			clients[0].send(corr(9), testRequest, 0)
			settle() // inside the model; the others wait
			if round.far != "" {
				clients[2].send("far", round.far, 0)
			}
			for i := range 7 {
				clients[i%3].send(corr(i), testRequest, 0)
			}
			clients[1].send(corr(8), `{"x":`+testRequest+`,"dl":5}`, 0)
			pass(time.Second)
			d.checkReply(clients[0].got(corr(9))[0], v)
			for i := range 7 {
				d.checkReply(clients[i%3].got(corr(i))[0], v)
			}
			if code := replyCode(t, clients[1].got(corr(8))[0]); code != protocol.CodeExpired {
				t.Errorf("the late one: %s", code)
			}
			if got := fmt.Sprint(sizes); got != round.want {
				t.Errorf("computed %s windows at a time, want %s", got, round.want)
			}
		}
		if code := replyCode(t, clients[2].got("far")[0]); code != protocol.CodeBadRequest {
			t.Errorf("the one out of range: %s", code)
		}
	})
}
