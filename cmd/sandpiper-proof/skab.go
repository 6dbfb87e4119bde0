package main

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/gonum/stat"
)

// skabFeatures are the sensors of the test bed.
const skabFeatures = "Accelerometer1RMS,Accelerometer2RMS,Current,Pressure,Temperature,Thermocouple,Voltage,Volume Flow RateRMS"

// A detection is a report of detectors, with their figures at other factors.
type detection struct {
	report
	Detection struct {
		At []struct {
			Factor  float64            `json:"threshold_factor"`
			Float32 map[string]float64 `json:"float32"`
			Int8    map[string]float64 `json:"int8"`
		} `json:"at_factors"`
		Groups []struct{} `json:"groups"`
	} `json:"detection"`
}

// skab trains a detector of each of the 34 experiments on its first 400 rows, as its
// leaderboard does, and pools the counts of all other rows.
func skab(ctx context.Context, h *house) (string, error) {
	args := []string{
		"train", "skab", "--each-file", "--task", "anomaly", "--time", "datetime", "--label", "anomaly", "--features", skabFeatures,
		"--split", "400,0,rest", "--epochs", "10",
	}
	for _, folder := range []string{"valve1", "valve2", "other"} {
		dir, err := dataFile("skab/" + folder)
		if err != nil {
			return "", err
		}
		args = append(args, "--data", dir)
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	var f1 []float64
	far, mar, linear, apart := 0.0, 0.0, 0.0, 0.0
	for seed := 1; seed <= accuracySeeds; seed++ {
		var r detection
		if err := s.runJSON(ctx, &r, append(args, "--seed", strconv.Itoa(seed))...); err != nil {
			return "", err
		}
		if n := len(r.Detection.Groups); n != 34 {
			return "", needs("the 34 experiments of SKAB; there are %d", n)
		}
		m := r.Metrics.Int8
		h.logf("skab, seed %d: F1 %.4f, FAR %.3f", seed, m["f1"], m["far"])
		for _, a := range r.Detection.At {
			apart = max(apart, math.Abs(a.Float32["f1"]-a.Int8["f1"]))
		}
		far, mar, linear = far+m["far"]/accuracySeeds, mar+m["mar"]/accuracySeeds, linear+r.Baselines["linear"]["f1"]/accuracySeeds
		f1 = append(f1, m["f1"])
	}
	mean, deviation := stat.MeanStdDev(f1, nil)
	figure := fmt.Sprintf("F1 %.4f ± %.2g at FAR %.1f %%, MAR %.1f %%; int8 and float32 at most %.4f apart at threshold factors 1 to 5; linear map %.4f",
		mean, deviation, 100*far, 100*mar, apart, linear)
	switch {
	case !(apart <= 0.005):
		return figure, fmt.Errorf("int8 and float32 are %.4f apart", apart)
	case !(far <= 0.26):
		return figure, fmt.Errorf("FAR %.3f, at most 0.26", far)
	}
	return figure, atLeast(mean, 0.74)
}
