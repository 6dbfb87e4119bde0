// Command firstprediction loads a model of 128 units from plain files, as
// bench.LoadDir describes, quantizes it, predicts once and says how long that
// took and what it holds: a process that is nothing but the kernel.
//
//	firstprediction DIR STARTED
//
// STARTED is when the process was started by the clock of who started it, in
// ns since 1970. It prints one line of JSON:
//
//	{"first_ms": from STARTED to the prediction, "peak_mb": the most that was resident, 10⁶ bytes}
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

const hidden = 128

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: firstprediction DIR STARTED")
	}
	started, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	if err := predict(args[0]); err != nil {
		return err
	}
	first := time.Since(time.Unix(0, started))
	peak, err := peakKB()
	if err != nil {
		return err
	}
	_, err = fmt.Printf("{\"first_ms\":%.3f,\"peak_mb\":%.3f}\n", float64(first.Nanoseconds())/1e6, float64(peak)*1024/1e6)
	return err
}

// predict loads the model in dir and predicts its input once.
func predict(dir string) error {
	w, x, err := bench.LoadDir(dir, hidden)
	if err != nil {
		return err
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		return err
	}
	m, err := kernel.NewInt8(q)
	if err != nil {
		return err
	}
	return m.Predict(m.NewState(), make([]float32, 1), x)
}

// peakKB is the most that was resident so far, in KiB, as Linux tells it.
func peakKB() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
