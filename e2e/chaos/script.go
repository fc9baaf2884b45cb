package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/orderflow/e2e/chaos/faults"
	"example.com/orderflow/e2e/chaos/load"
)

const (
	// firstFault is when the first fault begins: before, the system works undisturbed.
	firstFault = 5 * time.Second
	// leastGap is the least time between two faults: it shows whether work goes on.
	leastGap = load.RecoverWithin + 500*time.Millisecond
	// longest is what a run may take: scripts/lib.sh takes for left over what is older.
	longest = 12 * time.Hour
)

// line is a line of a script: what happens when, since the first order.
type line struct {
	at     time.Duration
	faults []faults.Fault
}

// At is a line of a script. It waits for the line before, if that takes longer.
func At(at time.Duration, f ...faults.Fault) line { return line{at, f} }

func (l line) alone() bool { return len(l.faults) == 1 }

// beside says that the next lines are carried out meanwhile.
func (l line) beside() bool { return l.alone() && l.faults[0].Beside }

func (l line) name() string {
	var names []string
	for _, f := range l.faults {
		names = append(names, f.Name)
	}
	return strings.Join(names, " + ")
}

// takes is about how long a line goes on.
func (l line) takes() (longest time.Duration) {
	for _, f := range l.faults {
		longest = max(longest, f.Takes)
	}
	return longest
}

// faults are all that there are for a system.
func (c settings) faults() []faults.Fault {
	if c.cluster {
		return faults.Cluster
	}
	return faults.All
}

// choose picks the faults of a run, and how long it takes if nobody has said that.
func (c *settings) choose() ([]faults.Fault, error) {
	pick, err := regexp.Compile(c.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	chosen := slices.Clone(c.faults())
	if c.only != "" {
		chosen = append(chosen, faults.OnlyByName...)
	}
	chosen = slices.DeleteFunc(chosen, func(f faults.Fault) bool { return !pick.MatchString(f.Name) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only: no fault is called %q", c.only)
	}
	if c.duration == 0 {
		var beside time.Duration
		for _, f := range chosen {
			if f.Beside {
				beside = max(beside, f.Takes)
			} else {
				c.duration += f.Takes + 6*time.Second
			}
		}
		c.duration = (max(c.duration, beside)*9/8 + time.Minute).Round(time.Minute) // some take longer
	}
	if c.duration > longest {
		return nil, fmt.Errorf("-duration: at most %s", longest)
	}
	return chosen, nil
}

// turn is smaller for faults that begin earlier: first those that go on beside the others,
// and those at the end that wait for these.
func turn(f faults.Fault) int {
	switch {
	case f.Beside:
		return 0
	case f.Last:
		return 2
	default:
		return 1
	}
}

// seeded writes a script: each fault alone, in the seed's order, then two at once
// until time is over.
func seeded(c *settings) ([]line, error) {
	chosen, err := c.choose()
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(c.seed, 1))
	random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	slices.SortStableFunc(chosen, func(a, b faults.Fault) int { return turn(a) - turn(b) })
	var script []line
	at := firstFault
	add := func(f ...faults.Fault) {
		next := At(at, f...)
		script = append(script, next)
		if !next.beside() {
			at += next.takes()
		}
		at += 3*time.Second + time.Duration(random.IntN(2000))*time.Millisecond
	}
	for _, f := range chosen {
		if at < c.duration {
			add(f)
		}
	}
	short := slices.DeleteFunc(chosen, faults.Fault.Long)
	for n := 0; at < c.duration && len(short) > 0; n++ {
		one := short[n%len(short)]
		if len(short) == 1 {
			add(one)
			continue
		}
		add(one, short[(n+1+random.IntN(len(short)-1))%len(short)])
	}
	return script, nil
}
