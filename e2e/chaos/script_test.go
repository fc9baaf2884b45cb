package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever the seed, a whole run has every fault alone, and some at once.
func TestTheSeedDecides(t *testing.T) {
	t.Parallel()
	for _, cluster := range []bool{false, true} {
		scripts := map[string]bool{}
		for seed := range uint64(200) {
			c := settings{cluster: cluster, seed: seed}
			script, err := seeded(&c)
			require.NoError(t, err)
			again, err := seeded(&c)
			require.NoError(t, err)
			require.Equal(t, names(again), names(script))
			alone, together := script[:len(c.faults())], script[len(c.faults()):]
			var all []string
			for _, f := range c.faults() {
				all = append(all, f.Name)
			}
			require.ElementsMatch(t, all, names(alone))
			require.NotEmpty(t, together)
			for _, l := range together {
				require.Len(t, l.faults, 2)
				require.NotEqual(t, l.faults[0].Name, l.faults[1].Name)
				require.False(t, l.faults[0].Long() || l.faults[1].Long(), l.name())
			}
			scripts[fmt.Sprint(names(script))] = true
		}
		require.Len(t, scripts, 200)
	}
}

// A run takes as long as its faults do, unless somebody says how long.
func TestHowLongARunTakes(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]struct {
		at    time.Duration
		least int
	}{
		"^broker killed$":             {2 * time.Minute, 3}, // again and again
		"^PostgreSQL away":            {9 * time.Minute, 1}, // once
		"never answers":               {11 * time.Minute, 1},
		"never answers|^SMTP":         {11 * time.Minute, 2}, // beside each other
		"^orders' database closed":    {9 * time.Minute, 1},  // only when it is asked for
		"^broker (killed|frozen)":     {2 * time.Minute, 3},
		"away for 6|refuses with 401": {18 * time.Minute, 3},
	} {
		c := settings{only: only}
		script, err := seeded(&c)
		require.NoError(t, err)
		require.InDelta(t, want.at.Minutes(), c.duration.Minutes(), 1, only)
		require.GreaterOrEqual(t, len(script), want.least, only)
		if script[0].beside() && len(script) > 1 {
			require.Less(t, script[1].at, 20*time.Second, only)
		}
		for _, l := range script {
			require.True(t, l.alone() || !l.faults[0].Long())
		}
	}
	for _, c := range []settings{{only: "no such thing"}, {only: "("}, {duration: 13 * time.Hour}} {
		_, err := seeded(&c)
		require.Error(t, err)
	}
	c := settings{duration: time.Minute}
	script, err := seeded(&c)
	require.NoError(t, err)
	require.Less(t, script[len(script)-1].at, time.Minute)
}

func names(script []line) (out []string) {
	for _, l := range script {
		out = append(out, l.name())
	}
	return out
}
