package controlplane

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A page is a writer that may be read while it is written.
type page struct {
	mu sync.Mutex
	b  strings.Builder
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func TestRecordSamples(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	name := c.Fleet.Name()
	if _, err := c.Record(t.Context(), protocol.SampleTopic(name, "+", "pump"), &page{}); !errors.Is(err, ErrNoBroker) {
		t.Errorf("Record before Run = %v, want ErrNoBroker", err)
	}
	_, token, err := c.AddDevice(t.Context(), "p1", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, c)
	d := connect(t, c, "p1", token)
	for _, filter := range []string{"#", "sp1/" + name + "/#", "sp1/other/d/+/s/+", protocol.HaveTopic(name, "+"), "sp1/" + name + "/d/P/s/+"} {
		if _, err := c.Record(t.Context(), filter, &page{}); !errors.Is(err, ErrFilter) {
			t.Errorf("Record(%q) = %v, want ErrFilter", filter, err)
		}
	}

	var out page
	ctx, cancel := context.WithCancel(t.Context())
	type end struct {
		r   Recorded
		err error
	}
	ended := make(chan end, 2)
	record := func(ctx context.Context, w *page) {
		go func() {
			r, err := c.Record(ctx, protocol.SampleTopic(name, "+", "pump"), w)
			ended <- end{r, err}
		}()
	}
	record(ctx, &out)
	topic := protocol.SampleTopic(name, "p1", "pump")
	until(t, "recording", func() bool { // there is no telling when the subscription holds
		d.publish(topic, false, []byte(`{"t":1,"v":{"probe":1}}`))
		return strings.Contains(out.String(), "pump,device=p1 probe=1 1000000\n")
	})
	d.publish(protocol.SampleTopic(name, "p1", "other"), false, []byte(`{"t":2,"v":{"x":1}}`))
	d.publish(topic, false, []byte("no sample"))
	d.publish(topic, false, []byte(`{"t":1767225600000,"v":{"heat":21.5,"flow rate":-3}}`))
	const line = `pump,device=p1 flow\ rate=-3,heat=21.5 1767225600000000000`
	until(t, "the sample", func() bool { return strings.HasSuffix(out.String(), line+"\n") })
	cancel()
	e := <-ended
	if lines := strings.Count(out.String(), "\n"); e.err != nil || e.r.Samples != lines || e.r.Unreadable != 1 || strings.Contains(out.String(), "other") {
		t.Errorf("Record = %+v, %v, and wrote\n%s", e.r, e.err, out.String())
	}

	// Into a data set of its own.
	if _, err := c.StartRecording(t.Context(), "pumps", protocol.HaveTopic(name, "+"), 0, 0); !errors.Is(err, ErrFilter) {
		t.Errorf("StartRecording of another topic = %v, want ErrFilter", err)
	}
	if _, err := c.StartRecording(t.Context(), "pumps", protocol.SampleTopic(name, "+", "pump"), time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "a sample in the set", func() bool {
		d.publish(topic, false, []byte(`{"t":3,"v":{"set":1}}`))
		one, err := c.Sets.Show("pumps")
		return err == nil && one.Samples > 0
	})
	if one, err := c.Sets.Stop("pumps"); err != nil || one.State != recording.Stopped || one.Until.IsZero() {
		t.Errorf("Stop = %+v, %v", one, err)
	}

	// One that is under way when the control plane ends says so.
	var last page
	record(t.Context(), &last)
	until(t, "recording again", func() bool {
		d.publish(topic, false, []byte(`{"v":{"a":1}}`))
		return last.String() != ""
	})
	stop()
	if e := <-ended; !errors.Is(e.err, ErrNoBroker) {
		t.Errorf("Record at the end of the control plane = %v, want ErrNoBroker", e.err)
	}
}

// stuck is a writer that takes nothing until it is let go.
type stuck chan struct{}

func (s stuck) Write(b []byte) (int, error) {
	<-s
	return len(b), nil
}

func TestRecordEndsWhereItsReaderIsTooSlow(t *testing.T) {
	defer func(n int) { waiting = n }(waiting)
	waiting = 3
	c := open(t, Config{Dir: initDir(t)})
	_, token, err := c.AddDevice(t.Context(), "p1", nil)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	d := connect(t, c, "p1", token)
	letGo := make(stuck)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Record(t.Context(), protocol.SampleTopic(c.Fleet.Name(), "p1", "+"), letGo)
		ended <- err
	}()
	release := sync.OnceFunc(func() { close(letGo) })
	defer release()
	for range 1000 {
		d.publish(protocol.SampleTopic(c.Fleet.Name(), "p1", "pump"), false, []byte(`{"v":{"a":1}}`))
		if len(ended) > 0 {
			break
		}
	}
	release()
	if err := <-ended; !errors.Is(err, ErrSlow) {
		t.Errorf("Record = %v, want ErrSlow", err)
	}
}

func TestLinesOfSamples(t *testing.T) {
	arrival := time.Unix(5, 7)
	for payload, want := range map[string]string{
		`{"t":3,"v":{"a":1e-7}}`:             "s,device=d a=1e-07 3000000\n",
		`{"v":{"a=b,c":0.1}}`:                `s,device=d a\=b\,c=0.1 5000000007` + "\n",
		`{"v":{"a\\":1}}`:                    "",
		`{"v":{"a\nb":1}}`:                   "",
		`{"t":9007199254740991,"v":{"a":1}}`: "",
		`{"v":{}}`:                           "",
		`{"t":3,"v":{"m":"a\"\\b","a":1}}`:   `s,device=d a=1,m="a\"\\b" 3000000` + "\n",
		`{"v":{"m":"a\nb","a":1}}`:           "",
		`[1]`:                                "",
	} {
		got, ok := appendLine(nil, broker.Message{Topic: "sp1/f/d/d/s/s", Payload: []byte(payload)}, arrival)
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("%s: %q, %v, want %q", payload, got, ok, want)
		}
		if !ok {
			continue
		}
		if table, err := dataset.Read(bytes.NewReader(got), dataset.Columns{}); err != nil || len(table.X) != 1 {
			t.Errorf("%s does not read back: %v", got, err)
		}
	}
}
