package messaging

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// backoff waits a random time below a bound that doubles ("full jitter"). So the clients of a
// broker that has come back do not connect all at the same time.
type backoff struct {
	bound, max time.Duration
}

const firstBackoff = 100 * time.Millisecond

func newBackoff(limit time.Duration) *backoff { return &backoff{bound: firstBackoff, max: limit} }

func (b *backoff) reset() { b.bound = firstBackoff }

// sleep waits. It returns false when ctx ended first.
func (b *backoff) sleep(ctx context.Context) bool { return b.sleepUnless(ctx, nil) }

// sleepUnless waits. It returns false when ctx or stop ended first.
func (b *backoff) sleepUnless(ctx context.Context, stop <-chan struct{}) bool {
	bound := min(b.bound, b.max)
	b.bound = min(bound*2, b.max)
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(bound) + 1)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	}
}

// atLeast compares versions ("4.3.6") by their numbers. It ignores all after a "-" or "+".
func atLeast(version, minimum string) bool {
	have, want := numbers(version), numbers(minimum)
	for i := range want {
		if i >= len(have) {
			return false
		}
		if have[i] != want[i] {
			return have[i] > want[i]
		}
	}
	return true
}

func numbers(version string) []int {
	if i := strings.IndexAny(version, "-+"); i >= 0 {
		version = version[:i]
	}
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return out
		}
		out = append(out, n)
	}
	return out
}
