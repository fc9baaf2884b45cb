package messaging

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// defaultLimit is the broker's default.
	defaultLimit = 20
	// firstRetryDelay doubles with each attempt, to lastRetryDelay.
	firstRetryDelay = 100 * time.Millisecond
	lastRetryDelay  = 5 * time.Second
)

// defaultInPlace is how long a message of a queue that keeps order is tried in place.
const defaultInPlace = 75 * time.Second

// inPlace is how long a failed message is tried in place; 0 for not at all.
func (q Queue) inPlace() time.Duration {
	if q.Retry.InPlace == 0 && q.SingleActiveConsumer {
		return defaultInPlace
	}
	return max(q.Retry.InPlace, 0)
}

// brokerDelays says whether the broker delays rejected messages. On a queue that keeps order it
// must not: later messages would overtake them.
func (q Queue) brokerDelays() bool {
	return q.Type == Quorum && q.Retry.MinDelay > 0 && q.inPlace() == 0 && !q.SingleActiveConsumer
}

// kept is how long the consumer keeps a failed message, in addition to the time of its handler.
func (q Queue) kept() time.Duration {
	if window := q.inPlace(); window > 0 || q.brokerDelays() {
		return window
	}
	return q.Retry.MaxDelay
}

// retries says what a consumer does after a failed attempt, by its queue's description: see the
// table at Handler. A job whose attempts the broker does not count is retried in place.
type retries struct {
	Retry
	window  time.Duration // the handler is called again in place, for this long
	delayed bool          // the consumer waits before it rejects, as the broker does not delay
}

func retriesOf(q Queue) retries {
	r := retries{Retry: q.Retry, window: q.inPlace()}
	r.delayed = r.window == 0 && q.Type == Quorum && !q.brokerDelays()
	if r.Limit == 0 {
		r.Limit = defaultLimit
		if r.window > 0 && q.Type != Quorum { // only the time limits them
			r.Limit = Unlimited
		}
	}
	return r
}

// delay is how long to wait after a failed attempt or try.
func (r retries) delay(attempt int) time.Duration {
	attempt = max(attempt, 1)
	if r.MinDelay == 0 {
		return min(firstRetryDelay<<min(attempt-1, 10), lastRetryDelay)
	}
	if int64(attempt) > int64(r.MaxDelay/r.MinDelay) { // this way the product cannot overflow
		return r.MaxDelay
	}
	return r.MinDelay * time.Duration(attempt)
}

// finish calls the handler of a job again in place, as often as is needed, and then settles
// the job.
func (s *subscription) finish(ctx context.Context, j *job) {
	for s.again(ctx, j) {
		s.call(ctx, j)
	}
	s.settle(ctx, j)
}

// again says whether there is to be another try in place, and waits before it.
func (s *subscription) again(ctx context.Context, j *job) bool {
	switch {
	case s.config.autoAck, !j.out.failed, j.out.permanent, j.out.done, j.out.back, s.stopping(ctx, j):
		return false
	case j.out.away && s.keepsOrder:
		j.until = time.Time{} // waiting for what is away is not a retry
		pause := s.away.down(j)
		s.away.tell()
		return s.waitInPlace(ctx, j, pause)
	case j.out.away:
		return false
	case j.out.inPlace && s.retries.window == 0 && s.againInTime(ctx, j):
		return true
	case j.givenUp:
		return false
	case j.inPlace:
		return s.againCounted(ctx, j)
	case s.retries.window > 0:
		return s.againInWindow(ctx, j)
	default:
		return false
	}
}

// againInTime is again for RetryInPlace: all tries together have the handler's timeout. After
// that the error counts as any other.
func (s *subscription) againInTime(ctx context.Context, j *job) bool {
	if j.until.IsZero() {
		j.until = j.tried.Add(s.config.timeout)
		j.tries = 0
	}
	j.tries++
	delay := retries{}.delay(j.tries)
	return time.Now().Add(delay).Before(j.until) && s.waitInPlace(ctx, j, delay)
}

// againCounted is again for a queue whose attempts the consumer counts.
func (s *subscription) againCounted(ctx context.Context, j *job) bool {
	j.until = time.Time{} // it was for tries that are not attempts
	if s.isLast(j) {
		return false
	}
	if !s.waitInPlace(ctx, j, s.retries.delay(j.attempt)) {
		return false
	}
	j.attempt++
	j.delivery.Attempt = j.attempt
	return true
}

// againInWindow is again for a queue with retries in place for some time. After that time it
// makes the error permanent.
func (s *subscription) againInWindow(ctx context.Context, j *job) bool {
	now := time.Now()
	if j.until.IsZero() {
		j.until = now.Add(s.retries.window)
		j.tries = 0
	}
	j.tries++
	delay := s.retries.delay(j.tries)
	if !now.Add(delay).Before(j.until) {
		j.out.permanent = true
		j.out.text = clean(fmt.Sprintf("still failing after %s: %s", s.retries.window, j.out.text))
		return false
	}
	return s.waitInPlace(ctx, j, delay)
}

// waitInPlace waits between two tries. It returns false, and the job is given up, when the
// consumer stops or the subscription ends first.
func (s *subscription) waitInPlace(ctx context.Context, j *job, d time.Duration) bool {
	if !j.out.away {
		s.log.Warn("attempt failed, trying again in place", zap.String("message_id", j.delivery.ID),
			zap.String("correlation_id", j.delivery.CorrelationID), zap.Int("attempt", j.attempt), zap.String("error", j.out.text))
	}
	j.givenUp = !s.wait(ctx, d)
	return !j.givenUp
}

// wait waits. It returns false when the consumer stops or the subscription ends first.
func (s *subscription) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.stop:
		return false
	}
}

// isLast says whether no attempt may follow this one.
func (s *subscription) isLast(j *job) bool {
	return s.retries.Limit != Unlimited && j.attempt > s.retries.Limit
}
