package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMeasure(t *testing.T) {
	t.Parallel()
	at := func(second, accepted, ended int) Sample {
		return Sample{time.Duration(second) * time.Second, accepted, ended, accepted - ended}
	}
	samples := []Sample{at(0, 0, 0), at(1, 10, 5), at(2, 20, 5), at(6, 30, 6), at(8, 40, 20), at(9, 50, 20), at(20, 60, 50)}
	got := Measure(samples, 2*time.Second, 7*time.Second, 9*time.Second)
	require.Equal(t, Effect{First: 10, Accepted: 40, Ended: 15, Moving: 30, Pause: 4 * time.Second, Recovery: time.Second}, got)
	got = Measure(samples, 8500*time.Millisecond, 8500*time.Millisecond, 19*time.Second)
	require.Equal(t, 10500*time.Millisecond, got.Pause, "nothing came to its end until the next fault")
	require.Equal(t, got.Pause, got.Recovery)
}
