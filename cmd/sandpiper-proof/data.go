package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

func fd001(ctx context.Context, h *house) (string, error) {
	t, err := h.trainTurbofan(ctx, 1)
	if err != nil {
		return "", err
	}
	f, q := t.report.Metrics.Float32, t.report.Metrics.Int8
	figure := fmt.Sprintf("RMSE float32 %.2f, int8 %.2f; uncapped %.2f, score %.0f; mean %.2f, linear %.2f; %d engines",
		f["rmse"], q["rmse"], q["rmse_uncapped"], q["cmapss_score"],
		t.report.Baselines["mean"]["rmse"], t.report.Baselines["linear"]["rmse"], t.report.Items)
	switch {
	case t.report.Items != 100:
		return figure, fmt.Errorf("%d items, want 100", t.report.Items)
	case f["rmse"] == 0 || q["rmse"] == 0 || q["cmapss_score"] == 0 || t.report.Baselines["linear"]["rmse"] == 0:
		return figure, fmt.Errorf("a figure is missing")
	case math.Abs(f["rmse"]-q["rmse"]) > 0.10:
		return figure, fmt.Errorf("int8 is %.3f away from float32", math.Abs(f["rmse"]-q["rmse"]))
	}
	return figure, atMost(q["rmse"], 16.0)
}

// int8Difference compares the int8 outputs of a trained model with those of
// the float32 network it was made from, window by window.
func int8Difference(ctx context.Context, h *house) (string, error) {
	t, err := h.trainTurbofan(ctx, 1)
	if err != nil {
		return "", err
	}
	var n, sum, squares, differences float64
	for _, p := range t.report.Predictions {
		var f, q float64
		if err := errors.Join(json.Unmarshal(p.Float32, &f), json.Unmarshal(p.Int8, &q)); err != nil {
			return "", err
		}
		n++
		sum += f
		squares += f * f
		differences += (q - f) * (q - f)
	}
	std := math.Sqrt(squares/n - sum/n*sum/n)
	percent := 100 * math.Sqrt(differences/n) / std
	return fmt.Sprintf("%.2f %% of %.1f cycles, %.0f engines", percent, std, n), atMost(percent, 1.5)
}

func etth1(ctx context.Context, h *house) (string, error) {
	data, err := dataFile("etth1/ETTh1.csv.gz")
	if err != nil {
		return "", err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	h.logf("training power, this takes minutes")
	var r report
	if err := s.runJSON(ctx, &r, "train", "power", "--data", data, "--task", "forecast", "--time", "date", "--target", "OT",
		"--features", "OT", "--window", "96", "--horizon", "24", "--split", "8640,2880,2880", "--anchor", "last"); err != nil {
		return "", err
	}
	repeat, linear := r.Baselines["repeat_last"], r.Baselines["linear"]
	figure := fmt.Sprintf("MSE/MAE scaled: int8 %.4f/%.4f, float32 %.4f/%.4f, repeat-last %.4f/%.4f, linear %.4f/%.4f; %d windows",
		r.Metrics.Int8["mse_scaled"], r.Metrics.Int8["mae_scaled"], r.Metrics.Float32["mse_scaled"], r.Metrics.Float32["mae_scaled"],
		repeat["mse_scaled"], repeat["mae_scaled"], linear["mse_scaled"], linear["mae_scaled"], r.Items)
	if repeat["mse_scaled"] == 0 || linear["mse_scaled"] == 0 || r.Metrics.Int8["mse_scaled"] == 0 {
		return figure, fmt.Errorf("a figure is missing")
	}
	return figure, atMost(r.Metrics.Int8["mse_scaled"], repeat["mse_scaled"])
}
