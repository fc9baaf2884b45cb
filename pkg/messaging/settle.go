package messaging

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Verdict says what happened to a delivery.
type Verdict string

// The verdicts.
const (
	// Acked: handled, and acknowledged.
	Acked Verdict = "acked"
	// Rejected: a failed attempt. It is delivered again after the queue's delay.
	Rejected Verdict = "rejected"
	// Parked: moved to the dead-letter queue with its reason.
	Parked Verdict = "parked"
	// Discarded: failed for the last time on a queue whose description has no DeadLetter,
	// and rejected without requeue. The broker dead-letters it if the queue is set up so;
	// otherwise it is lost.
	Discarded Verdict = "discarded"
	// Dropped: failed, and not in the queue any more: it was delivered with automatic
	// acknowledgement, or it is a request that was answered with an error or has expired,
	// see [Serve].
	Dropped Verdict = "dropped"
	// Away: given back because the handler returned [Unavailable]. Not an attempt.
	Away Verdict = "away"
	// GivenBack: given back because the consumer stops, see [Consumer.Drain], or because
	// the handler returned [GiveBack]. Not an attempt.
	GivenBack Verdict = "given_back"
	// Stale: not settled, because the subscription had ended. The broker delivers it again.
	Stale Verdict = "stale"
)

// settle settles a job by its outcome, on the channel of the delivery and on no other.
func (s *subscription) settle(ctx context.Context, j *job) {
	if j.out.away && !j.givenUp && !s.config.autoAck && !s.stopping(ctx, j) {
		if s.hold(j) {
			return
		}
		j.out.away = false // it has failed alone
		s.finish(ctx, j)
		return
	}
	verdict := s.verdict(ctx, j)
	s.settled(j)
	s.report(j, verdict)
}

// verdict acknowledges, rejects or parks the message, and gives the verdict.
func (s *subscription) verdict(ctx context.Context, j *job) Verdict {
	d := j.raw
	switch {
	case s.config.autoAck && j.out.failed:
		return Dropped
	case s.config.autoAck:
		return Acked
	case isDone(s.ended):
		return Stale
	case !j.out.failed:
		return s.done(s.ack(d.DeliveryTag), Acked)
	case j.out.done:
		return s.done(s.ack(d.DeliveryTag), Dropped)
	case j.givenUp, s.stopping(ctx, j):
		return s.giveBack(d, GivenBack)
	case j.out.back:
		return s.handBack(ctx, j)
	case j.out.permanent || s.isLast(j):
		return s.park(j)
	case s.retries.delayed && !s.wait(ctx, s.retries.delay(j.attempt)):
		if isDone(s.ended) {
			return Stale
		}
		return s.giveBack(d, GivenBack)
	default:
		return s.done(s.reject(d, true), Rejected)
	}
}

// report gives observers the verdict on a job. The job ends with that.
func (s *subscription) report(j *job, verdict Verdict) {
	delivery := j.delivery
	j.delivery = nil // observers are user code, and may end this goroutine
	j.raw.Headers, j.raw.Body = nil, nil
	s.conn.config.observers.settled(delivery, verdict, j.out, j.began)
}

// stopping says whether a job failed because its consumer stops.
func (s *subscription) stopping(ctx context.Context, j *job) bool {
	return j.out.failed && !j.out.permanent && (j.out.stopping || errors.Is(context.Cause(ctx), ErrStopping))
}

// giveBack keeps a delivery until the consumer is cancelled: after an earlier nack the broker
// would deliver it to this consumer again at once.
func (s *subscription) giveBack(d amqp.Delivery, v Verdict) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returning = append(s.returning, d)
	return v
}

// handBack gives a delivery back while the consumer goes on, for GiveBack. It waits first,
// since the broker delivers it again at once.
func (s *subscription) handBack(ctx context.Context, j *job) Verdict {
	wait := min(max(j.out.pause, firstRetryDelay), maxAskedPause)
	if limit := s.queue.ConsumerTimeout; limit > 0 {
		wait = min(wait, limit/2)
	}
	switch {
	case s.wait(ctx, wait):
		err := j.raw.Nack(false, true)
		s.acks.settle(j.raw.DeliveryTag)
		return s.done(err, GivenBack)
	case isDone(s.ended):
		return Stale
	default:
		return s.giveBack(j.raw, GivenBack)
	}
}

// ack acknowledges a delivery.
func (s *subscription) ack(tags ...uint64) error {
	over, err := s.leaveInOrder()
	if err != nil {
		return err
	}
	err = s.acks.ack(time.Now(), tags...)
	if over {
		s.leave(errHandedOver)
	}
	return err
}

// leaveInOrder cancels the subscription before the last message is settled, on a queue that
// keeps order: otherwise this consumer would get the next message. It says whether the
// tenure is over. With a prefetch above 1 it does not cancel: the next consumer would begin
// with the messages after the prefetched ones.
func (s *subscription) leaveInOrder() (over bool, err error) {
	if !s.keepsOrder {
		return false, nil
	}
	over = s.tenureOver(time.Now())
	if s.prefetch == 1 && (over || isDone(s.draining)) {
		err = s.cancel(true)
	}
	return over, err
}

// tenureOver says whether another consumer should take over. The tenure begins with the first
// message that is settled: a consumer is not told when it becomes the active one.
func (s *subscription) tenureOver(now time.Time) bool {
	if s.config.tenure <= 0 {
		return false
	}
	if s.until.IsZero() {
		s.until = now.Add(s.config.tenure/2 + rand.N(s.config.tenure))
	}
	return now.After(s.until)
}

// reject rejects a failed message, with or without requeue. It is noted as settled only after
// that was sent: otherwise an acknowledgement with "multiple" could include it.
func (s *subscription) reject(d amqp.Delivery, requeue bool) error {
	over := false
	if !requeue {
		var err error
		if over, err = s.leaveInOrder(); err != nil {
			return err
		}
	}
	err := d.Reject(requeue)
	s.acks.settle(d.DeliveryTag)
	if over {
		s.leave(errHandedOver)
	}
	return err
}

// done gives the verdict, or Stale when settling has failed because the channel is closed.
func (s *subscription) done(err error, v Verdict) Verdict {
	if err != nil {
		return Stale
	}
	return v
}
