package agent

import "sync"

// placeBytes is the payload that one place in the queue pays for; a larger
// request takes more places. The 256 that are usual are 1 MiB at most, whoever
// asks.
const placeBytes = 4 << 10

func places(r request) int { return 1 + len(r.payload)/placeBytes }

// A queue holds the requests that wait, in a line for each client. Clients are
// served in turn, and when the queue is full the newest request of the client
// that holds the most places gives way: one that asks too much waits for
// itself, and everybody else for at most one request of each other client.
type queue struct {
	limit int           // places
	wake  chan struct{} // capacity 1: there is a request

	mu    sync.Mutex // guards what follows
	lines map[string]*line
	turn  []*line // every line, the one to be served next first; none is empty
	taken int     // places
}

// A line is one client's requests, oldest first.
type line struct {
	client   string
	requests []request
	taken    int // places
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1), lines: make(map[string]*line)}
}

// put takes r in and returns those that give way for it, perhaps r itself. A
// request that is alone is always taken.
func (q *queue) put(r request) (out []request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	client, n := r.client(), places(r)
	mine := n
	if l := q.lines[client]; l != nil {
		mine += l.taken
	}
	for q.taken > 0 && q.taken+n > q.limit {
		most := q.turn[0]
		for _, l := range q.turn {
			if l.taken > most.taken {
				most = l
			}
		}
		if most.client == client || most.taken <= mine {
			return append(out, r)
		}
		last := len(most.requests) - 1
		out = append(out, most.requests[last])
		q.remove(most, last)
	}
	l := q.lines[client]
	if l == nil {
		l = &line{client: client}
		q.lines[client] = l
		q.turn = append(q.turn, l)
	}
	l.requests = append(l.requests, r)
	l.taken += n
	q.taken += n
	q.signal()
	return out
}

// take removes the request whose turn it is, and up to n-1 more for the same
// model: those at the head of a line, in turn. It returns none when none waits.
func (q *queue) take(n int) (out []request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(out) < n {
		i := 0
		for i < len(q.turn) && len(out) > 0 && q.turn[i].requests[0].topic.Model != out[0].topic.Model {
			i++
		}
		if i == len(q.turn) {
			break
		}
		l := q.turn[i]
		out = append(out, l.requests[0])
		q.turn = append(append(q.turn[:i:i], q.turn[i+1:]...), l) // last in turn now
		q.remove(l, 0)
	}
	return out
}

// remove takes request i out of l, and l out of the queue when that was all.
func (q *queue) remove(l *line, i int) {
	n := places(l.requests[i])
	l.taken -= n
	q.taken -= n
	l.requests = append(l.requests[:i:i], l.requests[i+1:]...)
	if len(l.requests) > 0 {
		return
	}
	delete(q.lines, l.client)
	for i := range q.turn {
		if q.turn[i] == l {
			q.turn = append(q.turn[:i], q.turn[i+1:]...)
			return
		}
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
