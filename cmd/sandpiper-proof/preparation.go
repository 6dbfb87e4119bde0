package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// preparations are models that differ in what is done to their rows, with the flags
// of their training.
var preparations = []struct {
	model string
	texts []string // columns
	flags []string
}{
	{"zscore", nil, nil},
	{"minmax", nil, []string{"--scale", "minmax"}},
	{"robust", nil, []string{"--scale", "robust,temperature=zscore"}},
	{"anchor", nil, []string{"--anchor", "last", "--target", "temperature"}},
	{"calendar", nil, []string{"--calendar", "hour,weekday,yearday"}},
	{"category", []string{"mode"}, []string{"--category", "mode"}},
	{"regimes", nil, []string{"--regimes", "3", "--regime-columns", "setting"}},
	{"all", []string{"mode"}, []string{
		"--category", "mode", "--calendar", "hour,weekday", "--regimes", "3", "--regime-columns", "setting", "--scale", "minmax,load=robust",
	}},
}

const preparationWindow = 6

// plantRows are 400 hours of a plant: load and temperature, a mode whose texts are
// partly missing and partly new at the end, and a setting with three levels.
func plantRows() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString("time,load,temperature,mode,setting\n")
	for i := range 400 {
		at := time.Date(2026, 3, 2, i, 0, 0, 0, time.UTC)
		mode := []string{"idle", "run", "full load", ""}[rng.IntN(4)]
		if i > 330 && i%5 == 0 {
			mode = "maintenance"
		}
		setting := rng.IntN(3)
		fmt.Fprintf(&b, "%s,%.2f,%.3f,%s,%.2f\n", at.Format("2006-01-02 15:04:05"), 50+20*math.Sin(float64(at.Hour())/3.8)+rng.NormFloat64(),
			15+float64(setting)*40+rng.NormFloat64(), mode, float64(setting)*10+rng.Float64()/10)
	}
	return b.Bytes()
}

// A question is a window as a client sends it, and the digits that the control plane
// printed for it.
type question struct {
	request []byte
	want    string
}

// questions trains the models at s and returns what to ask of each.
func (h *house) questions(ctx context.Context, s *site) (map[string][]question, error) {
	data := plantRows()
	file := filepath.Join(filepath.Dir(s.dir), "plant.csv")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return nil, err
	}
	asks := map[string][]question{}
	for _, p := range preparations {
		args := append([]string{
			"train", p.model, "--data", file, "--task", "forecast", "--time", "time", "--target", "load", "--window", strconv.Itoa(preparationWindow),
			"--horizon", "2", "--units", "12", "--epochs", "2", "--seed", "1", "-o", "name",
		}, p.flags...)
		if _, err := s.run(ctx, args...); err != nil {
			return nil, err
		}
		var r struct {
			Features    []string
			Predictions []struct {
				Time string
				Int8 json.RawMessage
			}
		}
		if err := s.runJSON(ctx, &r, "eval", p.model, "--data", file, "--predictions"); err != nil {
			return nil, err
		}
		for _, q := range r.Predictions {
			request, err := plantRequest(rows, r.Features, p.texts, q.Time)
			if err != nil {
				return nil, err
			}
			var digits bytes.Buffer
			if err := json.Compact(&digits, q.Int8); err != nil {
				return nil, err
			}
			asks[p.model] = append(asks[p.model], question{request, digits.String()})
		}
		if len(asks[p.model]) < 50 {
			return nil, fmt.Errorf("%s: eval printed %d predictions", p.model, len(asks[p.model]))
		}
	}
	return asks, nil
}

// plantRequest asks for the window that ends at that time, in the digits of the file.
func plantRequest(rows [][]string, features, texts []string, last string) ([]byte, error) {
	end := slices.IndexFunc(rows, func(r []string) bool { return r[0] == last })
	at, err := time.Parse("2006-01-02 15:04:05", last)
	if err != nil || end < preparationWindow {
		return nil, fmt.Errorf("no window ends at %q: %v", last, err)
	}
	var window []map[string]any
	for _, row := range rows[end-preparationWindow+1:][:preparationWindow] {
		values := map[string]any{}
		for _, name := range features {
			s := row[slices.Index(rows[0], name)]
			if slices.Contains(texts, name) {
				values[name] = s
			} else {
				values[name] = json.Number(s)
			}
		}
		window = append(window, values)
	}
	return json.Marshal(map[string]any{"t": at.UnixMilli(), "x": window})
}

// preparation asks agents on every architecture and every tier of this CPU for the
// windows that the control plane evaluated, for every way to prepare rows.
func preparation(ctx context.Context, h *house) (string, error) {
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	asks, err := h.questions(ctx, s)
	if err != nil {
		return "", err
	}
	if err := s.serve(ctx); err != nil {
		return "", err
	}
	defer s.close()
	var done []string
	n := 0
	for _, on := range []struct {
		goarch, emulator string
		tiers            []string
	}{
		{"amd64", "", kernel.Tiers()}, {"386", "", []string{""}}, {"arm64", "qemu-aarch64", []string{""}},
		{"arm", "qemu-arm", []string{""}}, {"riscv64", "qemu-riscv64", []string{""}},
	} {
		for _, tier := range on.tiers {
			name := strings.TrimSuffix(on.goarch+" "+tier, " ")
			if n, err = h.askPrepared(ctx, s, asks, on.goarch, on.emulator, tier); err != nil {
				return strings.Join(done, ", "), fmt.Errorf("%s: %w", name, err)
			}
			done = append(done, name)
		}
	}
	return fmt.Sprintf("%d options, %d answers equal on each of %s", len(preparations), n, strings.Join(done, ", ")), nil
}

// askPrepared asks one agent everything, and returns the number of answers, which
// are equal digit by digit to what the control plane printed.
func (h *house) askPrepared(ctx context.Context, s *site, asks map[string][]question, goarch, emulator, tier string) (n int, err error) {
	bin, err := h.build(ctx, goarch, "./cmd/sandpiper-agent")
	if err != nil {
		return 0, err
	}
	argv, err := emulated(emulator)
	if err != nil {
		return 0, err
	}
	id := strings.Trim("prepared-"+goarch+"-"+tier, "-")
	d, err := s.addDevice(ctx, id, append(argv, bin)...)
	if err != nil {
		return 0, err
	}
	defer d.remove()
	d.tier = tier
	if err := d.start(ctx); err != nil {
		return 0, err
	}
	for _, p := range preparations {
		if _, err := s.run(ctx, "rollout", "start", p.model+":v1", "--to", id); err != nil {
			return n, err
		}
	}
	for _, p := range preparations {
		if err := d.active(ctx, p.model, p.model+":v1", asks[p.model][0].request); err != nil {
			return n, err
		}
		for _, q := range asks[p.model] {
			r, err := d.predict(p.model, q.request)
			if err != nil {
				return n, fmt.Errorf("%s: %w", p.model, err)
			}
			got, err := json.Marshal(r.Y)
			if err != nil || string(got) != q.want {
				return n, fmt.Errorf("%s: the device answers %s (%v), eval printed %s for %s", p.model, got, err, q.want, q.request)
			}
			n++
		}
	}
	return n, nil
}
