package main

import (
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// measured has three rounds of all scenarios, in which pkg/messaging is twice as fast.
func measured() *results {
	r := newResults("4.3.6", 3)
	for _, s := range scenarios() {
		for _, c := range s.contenders {
			for _, wobble := range []float64{0.9, 1, 1.1} {
				got := sample{rate: 100 * wobble, allocs: 40, cpu: 10 * time.Microsecond, p50: time.Millisecond}
				if c.name == ours {
					got.rate, got.p50 = 200*wobble, 2*time.Millisecond
				}
				r.add(s, c, got)
			}
		}
	}
	return r
}

func TestResultsAreWritten(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, measured().write(folder, scenarios()))
	var got struct{ Ratios map[string]float64 }
	encoded, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, &got))
	require.Equal(t, map[string]float64{
		"publish_1": 2, "publish_64": 2, "consume": 2, "batch": 2, "rpc_1": 2, "rpc_64": 2, "latency_p50": 2,
		"allocs_publish": 1, "allocs_handle": 1, "client_cpu": 1,
	}, got.Ratios)
	page, err := os.ReadFile(filepath.Join(folder, "RESULTS.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), ours)
	file, err := os.Open(filepath.Join(folder, "results.png"))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	_, err = png.Decode(file)
	require.NoError(t, err)
}

func TestResultsOfAPartAreNotWritten(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.ErrorContains(t, measured().write(folder, scenarios()[:2]), "consume was not measured")
}

func TestAMissIsCalledOne(t *testing.T) {
	t.Parallel()
	require.Contains(t, verdict("publish_1", figure{1.099, 1, 1.0995}, 1.1), "MISSED\n")
	require.Contains(t, verdict("publish_1", figure{1.0996, 1, 1.2}, 1.1), "reached, a tie")
	require.Contains(t, verdict("latency_p50", figure{1.101, 1, 1.2}, 1.1), "MISSED, a tie")
	require.Contains(t, verdict("client_cpu", figure{0.9, 0.8, 0.95}, 1), "reached\n")
}

func TestATieIsCalledOne(t *testing.T) {
	t.Parallel()
	require.True(t, figure{100, 90, 110}.overlaps(figure{115, 105, 120}))
	require.False(t, figure{100, 90, 104}.overlaps(figure{115, 105, 120}))
}
