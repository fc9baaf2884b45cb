package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A short drill: a few faults that take little time.
func TestAShortDrill(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	report, err := drill(ctx, settings{seed: 1, duration: 50 * time.Second, rate: 15}, []strike{
		At(5*time.Second, brokerKilled),
		At(20*time.Second, killedAfterCapture),
		At(27*time.Second, killedAfterConfirm),
		At(34*time.Second, connectionsClosed, databaseKilled),
		At(42*time.Second, poisoned),
	})
	require.NoError(t, err)
	require.NoError(t, report.publish(settings{}))
	require.Empty(t, report.Findings)
	require.Greater(t, report.Accepted, 300)
	require.Positive(t, report.Poison)
	require.Len(t, report.Strikes, 5)
}

func TestTheSeedDecides(t *testing.T) {
	t.Parallel()
	names := func(seed uint64) (out []string) {
		script, err := seeded(settings{seed: seed, duration: time.Hour})
		require.NoError(t, err)
		for _, line := range script[:len(faults)] {
			require.Len(t, line.faults, 1)
			out = append(out, line.faults[0].name)
		}
		require.Len(t, script[len(faults)].faults, 2)
		return out
	}
	first, again := names(7), names(7)
	require.Equal(t, first, again)
	require.NotEqual(t, first, names(8))
	require.ElementsMatch(t, first, names(8))
	_, err := seeded(settings{only: "no such thing", duration: time.Hour})
	require.Error(t, err)
}
