package messaging

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Verdict is what became of a delivery.
type Verdict string

// The verdicts.
const (
	// Acked: handled, gone from the queue.
	Acked Verdict = "acked"
	// Rejected: failed, to be delivered again after the queue's delay. An attempt.
	Rejected Verdict = "rejected"
	// Parked: moved to the dead-letter queue with its reason.
	Parked Verdict = "parked"
	// Discarded: failed for good on a queue whose description has no dead letters, and
	// rejected without requeue: in the broker's dead letters if the queue has them there,
	// else gone.
	Discarded Verdict = "discarded"
	// Dropped: failed, and gone: taken with automatic acknowledgement, or a call that was
	// answered or is not wanted any more, see [Serve].
	Dropped Verdict = "dropped"
	// Away: what the handler needs is away, see [Unavailable]. Back in the queue, and no
	// attempt.
	Away Verdict = "away"
	// GivenBack: not handled because the consumer stops, see [Consumer.Drain], or because
	// the handler says [GiveBack].
	GivenBack Verdict = "given_back"
	// Stale: handled, but the subscription has ended; the broker delivers it again.
	Stale Verdict = "stale"
)

// settle carries the outcome out, on the channel that the delivery came by and on no
// other.
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

// verdict settles on the wire.
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

// report tells observers what became of a job, which ends with that.
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

// giveBack keeps a delivery until the consumer is cancelled: a nack before that would
// bring it straight back.
func (s *subscription) giveBack(d amqp.Delivery, v Verdict) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returning = append(s.returning, d)
	return v
}

// handBack gives a delivery back while the consumer goes on, as GiveBack asks: it waits
// first, since the broker sends it again at once.
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

// ack acknowledges.
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

// leaveInOrder cancels before the last message is settled on a queue that keeps order,
// or the next one would still come to us. It says whether the tenure is over. Where more
// are prefetched there is no cancel: the next consumer would begin behind them.
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

// tenureOver says whether it is another consumer's turn. The tenure begins with the
// first message that is settled: who waits its turn does not know it.
func (s *subscription) tenureOver(now time.Time) bool {
	if s.config.tenure <= 0 {
		return false
	}
	if s.until.IsZero() {
		s.until = now.Add(s.config.tenure/2 + rand.N(s.config.tenure))
	}
	return now.After(s.until)
}

// reject gives a failed message back, or to the dead letters. Only what is
// settled on the wire may be counted as such, or an acknowledgement of "multiple"
// would take it along.
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

// done turns a failed settle into Stale: the channel is gone, so is the verdict.
func (s *subscription) done(err error, v Verdict) Verdict {
	if err != nil {
		return Stale
	}
	return v
}
