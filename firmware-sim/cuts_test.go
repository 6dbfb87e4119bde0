package firmwaresim

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A cutTest cuts downloads of versions of one size.
type cutTest struct {
	name  string
	units int
	down  int // bytes per second, so that a download takes some ten seconds
}

// versions round robin: a device keeps three, so each is downloaded each time.
const cutVersions = 5

const cutRequest = `[[1,2,3,4,5],[2,3,4,5,6],[3,4,5,6,7],[4,5,6,7,8]]`

// A cutModel is a version and what it answers.
type cutModel struct {
	transfer *artifact.Transfer
	answer   []float32
}

func cutModels(t *testing.T, units int) []cutModel {
	t.Helper()
	var out []cutModel
	for seed := range uint64(cutVersions) {
		m, err := sizedModel(seed+10, units)
		if err != nil {
			t.Fatal(err)
		}
		var c cutModel
		if c.transfer, err = artifact.Pack(m); err != nil {
			t.Fatal(err)
		}
		p, err := predictor.Open(m)
		if err != nil {
			t.Fatal(err)
		}
		c.answer, err = p.PredictAppend(nil, []float32{1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// TestRandomCuts breaks downloads off at random moments: the link is lost, the
// process is killed, the power fails. After each, a version that is whole
// answers, and in the end the wanted one does; a lost link costs at most two
// chunks again and a dead process at most 128 KB. SANDPIPER_CUTS cuts, half of
// them at 70 KB and half at 4 MB, is the long form.
func TestRandomCuts(t *testing.T) {
	cuts, sizes := 24, []cutTest{{"70 KB", 128, 10_000}, {"190 KB", 214, 25_000}}
	if n, err := strconv.Atoi(os.Getenv("SANDPIPER_CUTS")); err == nil {
		cuts, sizes = n, []cutTest{{"70 KB", 128, 10_000}, {"4 MB", 1000, 400_000}}
	}
	seed := uint64(7)
	if n, err := strconv.ParseUint(os.Getenv("SANDPIPER_SEED"), 10, 64); err == nil {
		seed = n
	}
	for _, c := range sizes {
		t.Run(c.name, func(t *testing.T) {
			models := cutModels(t, c.units)
			simulate(t, Config{
				Interval: -1, Seed: seed, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
				Devices: []DeviceConfig{{ID: "d", Flash: 64 << 20, Link: Link{Down: c.down, Latency: 50 * time.Millisecond}}},
			}, func(w *world, s *Sim) {
				r := &cutRun{w: w, d: s.Devices()[0], models: models, rng: rand.New(rand.NewPCG(seed, uint64(c.units)))}
				for r.links+r.kills+r.powers < cuts/len(sizes) && !t.Failed() {
					r.download()
				}
				t.Logf("seed %d: %d links lost, %d kills, %d power cuts (%d inside a transaction) in %d downloads of %d bytes; fetched again at most %d bytes a lost link and %d a death; 0 violations",
					seed, r.links, r.kills, r.powers, r.d.flash.torn, r.downloads, models[0].transfer.Size, r.perLink, r.perDeath)
			})
		})
	}
}

// A testLog is shown when the test fails, or with -v.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// A cutRun is the state of one TestRandomCuts.
type cutRun struct {
	w      *world
	d      *Device
	models []cutModel
	rng    *rand.Rand

	links, kills, powers, downloads int
	perLink, perDeath               int64 // most bytes fetched again
}

// download rolls the next version out, cuts its download a few times, and waits
// until it is confirmed.
func (r *cutRun) download() {
	t := r.w.t
	t.Helper()
	n := uint64(r.downloads%cutVersions + 1)
	size := int64(r.models[n-1].transfer.Size)
	r.downloads++
	before := r.w.sentChunks()
	r.w.rollOutTransfer(n, r.models[n-1].transfer, r.d.ID())
	pass(time.Second)
	var links, deaths int64
	for range r.rng.IntN(6) {
		if !r.fetching() {
			break
		}
		l, d := r.cut(int(size/protocol.ChunkSize) + 1)
		links, deaths = links+l, deaths+d
		r.answers(r.downloads > 1)
	}
	version := fmt.Sprintf("%s:v%d", testName, n)
	for limit := time.Now().Add(20 * time.Minute); ; pass(time.Second) {
		if m := r.model(); m.Version == version && m.Phase == protocol.PhaseIdle {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("download %d of %s ended as %+v", r.downloads, version, r.model())
		}
	}
	r.answers(true)
	again := r.w.sentChunks() - before - size
	const perLink, perDeath = 2 * protocol.ChunkSize, 128 << 10
	if again > links*perLink+deaths*perDeath {
		t.Errorf("download %d: %d bytes fetched again after %d lost links and %d deaths", r.downloads, again, links, deaths)
	}
	switch {
	case deaths == 0 && links > 0:
		r.perLink = max(r.perLink, again/links)
	case links == 0 && deaths > 0:
		r.perDeath = max(r.perDeath, again/deaths)
	}
}

// cut breaks something off: the link, the process or the power, at a moment in
// the 8 s that a download takes or at a step of what it writes. It returns how
// many links and lives were lost, if the download was not done before.
func (r *cutRun) cut(chunks int) (links, deaths int64) {
	moment := time.Duration(r.rng.Int64N(int64(8 * time.Second)))
	if r.rng.IntN(2) == 0 {
		pass(moment)
		if !r.fetching() {
			return 0, 0
		}
		r.d.cut()
		pass(2 * time.Second)
		r.links++
		return 1, 0
	}
	how, lives := []cut{kill, power}[r.rng.IntN(2)], r.d.Restarts()
	if r.rng.IntN(2) == 0 {
		pass(moment)
		r.d.flash.now(how)
	} else {
		r.d.flash.arm(how, 1+r.rng.IntN(2*chunks+12))
	}
	for limit := time.Now().Add(time.Minute); r.d.Restarts() == lives && time.Now().Before(limit); {
		pass(time.Second)
	}
	r.d.flash.arm(0, 0)
	pass(2 * time.Second)
	switch {
	case r.d.Restarts() == lives:
		return 0, 0
	case how == kill:
		r.kills++
	default:
		r.powers++
	}
	return 0, 1
}

func (r *cutRun) model() (m struct{ Version, Serving, Phase, Failed string }) {
	s, _ := r.d.Status()
	x := s.Models[testName]
	m.Version, m.Serving, m.Phase = x.Version, x.Serving, x.Phase
	if x.Failed != nil {
		m.Failed = x.Failed.Code + ": " + x.Failed.Message
	}
	return m
}

func (r *cutRun) fetching() bool { return r.model().Phase == protocol.PhaseFetching }

// answers checks that a version answers, whole.
func (r *cutRun) answers(must bool) {
	t := r.w.t
	t.Helper()
	r.d.mu.Lock()
	a := r.d.agent
	r.d.mu.Unlock()
	if a == nil {
		t.Fatal("no process after two seconds")
	}
	reply, err := protocol.DecodePredictReply(a.Predict(t.Context(), testName, []byte(cutRequest)))
	if err != nil {
		t.Fatal(err)
	}
	if reply.Error != nil {
		if must {
			t.Fatalf("no valid slot: %+v; %+v", reply.Error, r.model())
		}
		return
	}
	var n int
	if _, err := fmt.Sscanf(reply.Version, testName+":v%d", &n); err != nil || !slices.Equal(reply.Y, r.models[n-1].answer) {
		t.Fatalf("%s answers %v", reply.Version, reply.Y)
	}
}

// TestSyncedChunksOutliveAPowerCut: of a download that is nearly done, a power
// cut costs no more than the chunks under way.
func TestSyncedChunksOutliveAPowerCut(t *testing.T) {
	model, err := sizedModel(60, 300)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := artifact.Pack(model)
	if err != nil {
		t.Fatal(err)
	}
	link := Link{Down: 40_000}
	simulate(t, Config{Interval: -1, Devices: []DeviceConfig{{ID: "d", Link: link}}}, func(w *world, s *Sim) {
		d := s.Devices()[0]
		w.rollOutTransfer(1, tr, "d")
		pass(time.Duration(tr.Size) * time.Second * 9 / 10 / time.Duration(link.Down))
		d.flash.now(power)
		pass(time.Minute)
		w.expect(d, testName+":v1", "")
		if again := w.sentChunks() - int64(tr.Size); again > 2*protocol.ChunkSize || d.Restarts() != 1 {
			t.Errorf("%d of %d bytes fetched again after %d power cuts, want at most two chunks", again, tr.Size, d.Restarts())
		}
	})
}
