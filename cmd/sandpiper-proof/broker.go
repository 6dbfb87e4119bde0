package main

import (
	"context"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokerproof"
)

// thousandDevices distributes a model to 1,000 devices, alone and beside a
// subscriber that never reads; each run fails by itself if a healthy device
// does not get every byte.
func thousandDevices(ctx context.Context, _ *house) (string, error) {
	var alone, beside []float64
	for range 3 {
		a, b, err := brokerproof.Distribute(ctx, 1000)
		if err != nil {
			return "", err
		}
		alone, beside = append(alone, a.Last.Seconds()), append(beside, b.Last.Seconds())
	}
	a, b := median(alone), median(beside)
	figure := fmt.Sprintf("%.2f s until the last of 1,000 devices had it, %.2f s without the peer that never reads", b, a)
	if b > 3*a+1 {
		return figure, fmt.Errorf("healthy devices waited for the stuck one")
	}
	return figure, atMost(b, 10)
}
