package messaging

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// defaultDeliveryLimit is the broker's own, and what bounds the attempts where the
	// broker has no limit and no delay.
	defaultDeliveryLimit = 20
	// firstRetryDelay doubles with each attempt, to lastRetryDelay.
	firstRetryDelay = 100 * time.Millisecond
	lastRetryDelay  = 5 * time.Second
)

// retries is what a consumer does about a failed attempt, by its queue's description:
// the table at Handler. A job whose attempts the broker does not count is tried again in
// place.
type retries struct {
	window  time.Duration // the handler is called again in place, for this long
	delayed bool          // the consumer waits before it rejects, as the broker does not delay
	limit   int           // an attempt with a higher number is the last one; 0 for none
}

func retriesOf(q Queue, window time.Duration) retries {
	r := retries{window: window, limit: defaultDeliveryLimit}
	quorum := q.Type == Quorum
	r.delayed = window == 0 && quorum && q.DelayedRetry == nil
	switch {
	case q.DeliveryLimit > 0:
		r.limit = q.DeliveryLimit
	case window > 0 && !quorum, q.DeliveryLimit == Unlimited && !r.delayed:
		r.limit = 0
	}
	return r
}

// retryDelay is how long to wait after an attempt.
func retryDelay(attempt int) time.Duration {
	return min(firstRetryDelay<<min(max(attempt-1, 0), 10), lastRetryDelay)
}

// finish calls the handler of a job again, in place, for as long as its queue wants it,
// and then settles the job.
func (s *subscription) finish(ctx context.Context, j *job) {
	for s.again(ctx, j) {
		s.call(ctx, j)
	}
	s.settle(ctx, j)
}

// again waits before another try in place, and says whether there shall be one.
func (s *subscription) again(ctx context.Context, j *job) bool {
	switch {
	case s.config.autoAck, !j.out.failed, j.out.permanent, j.out.done, s.stopping(ctx, j):
		return false
	case j.out.away && s.keepsOrder:
		j.until = time.Time{} // waiting for what is away is not a retry
		pause := s.away.down(j)
		s.away.tell()
		return s.waitInPlace(ctx, j, pause)
	case j.out.away:
		return false
	case j.inPlace:
		return s.againCounted(ctx, j)
	case s.retries.window > 0:
		return s.againInWindow(ctx, j)
	default:
		return false
	}
}

// againCounted counts the attempts itself.
func (s *subscription) againCounted(ctx context.Context, j *job) bool {
	if s.isLast(j) {
		return false
	}
	if !s.waitInPlace(ctx, j, retryDelay(j.attempt)) {
		return false
	}
	j.attempt++
	j.delivery.Attempt = j.attempt
	return true
}

// againInWindow makes the error permanent when the time is over.
func (s *subscription) againInWindow(ctx context.Context, j *job) bool {
	now := time.Now()
	if j.until.IsZero() {
		j.until = now.Add(s.retries.window)
		j.tries = 0
	}
	j.tries++
	delay := retryDelay(j.tries)
	if !now.Add(delay).Before(j.until) {
		j.out.permanent = true
		j.out.text = clean(fmt.Sprintf("still failing after %s: %s", s.retries.window, j.out.text))
		return false
	}
	return s.waitInPlace(ctx, j, delay)
}

// waitInPlace keeps a message between two tries. It ends early, and the job is given up,
// when the consumer stops or the subscription has ended.
func (s *subscription) waitInPlace(ctx context.Context, j *job, d time.Duration) bool {
	if !j.out.away {
		s.log.Warn("attempt failed, trying again in place", zap.String("message_id", j.delivery.ID),
			zap.String("correlation_id", j.delivery.CorrelationID), zap.Int("attempt", j.attempt), zap.String("error", j.out.text))
	}
	j.givenUp = !s.wait(ctx, d)
	return !j.givenUp
}

// wait says false when the consumer stops, or the subscription ends, before the time is over.
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
	limit := s.retries.limit
	if limit == 0 && j.inPlace {
		limit = defaultDeliveryLimit
	}
	return limit > 0 && j.attempt > limit
}
