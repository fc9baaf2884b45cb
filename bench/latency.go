package main

import (
	"slices"
	"sync"
	"time"
)

// latencies are the times from publish to handled, by message id.
type latencies struct {
	mu   sync.Mutex
	sent map[string]time.Time
	took []time.Duration
}

func newLatencies(n int) *latencies {
	return &latencies{sent: make(map[string]time.Time, n), took: make([]time.Duration, 0, n)}
}

// send publishes at the pace. After a late message, the next ones are not sent faster.
func (l *latencies) send(n int, prepare func() (string, func() error, error)) error {
	next := time.Now()
	for range n {
		id, publish, err := prepare()
		if err != nil {
			return err
		}
		time.Sleep(time.Until(next)) //nolint:forbidigo // the pace needs the clock
		next = next.Add(time.Second / pace)
		l.mu.Lock()
		l.sent[id] = time.Now()
		l.mu.Unlock()
		if err := publish(); err != nil {
			return err
		}
	}
	return nil
}

func (l *latencies) arrived(id string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, now.Sub(l.sent[id]))
}

func (l *latencies) all() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took
}

// quantile sorts the values, and returns 0 if there are none.
func quantile[T int64 | float64 | time.Duration](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
