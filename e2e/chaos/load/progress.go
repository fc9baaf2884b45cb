package load

import (
	"context"
	"slices"
	"sync"
	"time"
)

// RecoverWithin is how soon after the broker is ready an order must come to its end.
const RecoverWithin = 3 * time.Second

// sampleEvery is how often progress is sampled, where the database answers so fast.
const sampleEvery = 250 * time.Millisecond

// Sample is how far the orders were at a time, since the beginning of the run.
type Sample struct {
	At       time.Duration
	Accepted int
	Ended    int // orders that were paid, declined or refunded; not those that customers have cancelled
	Moving   int // orders that have not come to their end
}

// Progress is how far the orders are over time.
type Progress struct {
	started time.Time
	mu      sync.Mutex
	samples []Sample
}

// NewProgress gives a progress without samples, of a run that began then.
func NewProgress(started time.Time) *Progress { return &Progress{started: started} }

// Run takes samples until ctx is done. count asks the system, and its errors are left out:
// the database may be away.
func (p *Progress) Run(ctx context.Context, accepted func() []string, count func(ctx context.Context) (ended, moving int, err error)) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		ended, moving, err := count(ctx)
		if err != nil {
			continue
		}
		p.mu.Lock()
		p.samples = append(p.samples, Sample{time.Since(p.started), len(accepted()), ended, moving})
		p.mu.Unlock()
	}
}

// Samples are those until now.
func (p *Progress) Samples() []Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.samples)
}

// Effect is what the orders did during a fault and after it, until the next one.
type Effect struct {
	First    int           `json:"-"`                // how many orders were accepted before
	Accepted int           `json:"accepted"`         // orders, meanwhile
	Ended    int           `json:"ended"`            // meanwhile
	Moving   int           `json:"moving"`           // at the end
	Pause    time.Duration `json:"longest_pause_ns"` // without an order that came to its end
	Recovery time.Duration `json:"recovery_ns"`      // from repaired to the next order that came to its end
}

// Measure looks at the orders between two times. The fault was repaired at a time between
// them. A pause that lasts until the end counts too.
func Measure(samples []Sample, from, repaired, until time.Duration) Effect {
	e := Effect{Recovery: max(until-repaired, 0)}
	var before, last Sample
	lastEnd := from // when an order came to its end last
	recovered := false
	for _, now := range samples {
		if now.At > until {
			break
		}
		if now.At < from {
			before, last, e.Moving = now, now, now.Moving
			continue
		}
		if now.Ended > last.Ended {
			e.Pause = max(e.Pause, now.At-lastEnd)
			lastEnd = now.At
			if !recovered && now.At >= repaired {
				recovered, e.Recovery = true, now.At-repaired
			}
		}
		e.Accepted, e.Ended, e.Moving = now.Accepted-before.Accepted, now.Ended-before.Ended, now.Moving
		last = now
	}
	e.First, e.Pause = before.Accepted, max(e.Pause, until-lastEnd)
	return e
}
