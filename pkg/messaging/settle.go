package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Verdict is what became of a delivery.
type Verdict string

// The verdicts.
const (
	// Acked: handled, gone from the queue.
	Acked Verdict = "acked"
	// Rejected: failed, to be delivered again after the queue's delay.
	Rejected Verdict = "rejected"
	// Parked: moved to the dead-letter queue with its reason.
	Parked Verdict = "parked"
	// Dropped: failed on a queue that has no dead letters, and gone.
	Dropped Verdict = "dropped"
	// GivenBack: not handled because the consumer stops, see [Consumer.Drain].
	GivenBack Verdict = "given_back"
	// Stale: handled, but the subscription has ended; the broker delivers it again.
	Stale Verdict = "stale"
)

// Headers of a parked message.
const (
	HeaderDeadReason   = "dead-reason"   // the handler's error
	HeaderDeadAttempts = "dead-attempts" // how often it was tried
	HeaderDeadOrigin   = "dead-origin"   // the exchange it was published to
	HeaderDeadUser     = "dead-user"     // the user who published it
)

// notForCopies are the headers that a copy must not carry: counts that belong to
// the queue it was in, and CC and BCC, by which the broker would route it elsewhere.
var notForCopies = []string{"x-delivery-count", "x-acquired-count", "CC", "BCC"}

// maxReason bounds the reason in a header, in bytes.
const maxReason = 1024

// parkTimeout bounds the publish of a parked copy.
const parkTimeout = 10 * time.Second

// handle runs the handler for one delivery and settles it.
func (s *subscription) handle(ctx context.Context, d amqp.Delivery) {
	started := time.Now()
	delivery := newDelivery(d, s.queueName)
	if s.queue.Type == Quorum && d.Headers["x-delivery-count"] == nil {
		delivery.Attempt = 1 // redelivered, perhaps, but given back and so not counted
	}
	err := s.attempt(ctx, delivery)
	verdict := s.settle(ctx, d, delivery, err)
	s.conn.config.Hooks.Settled(delivery, verdict, time.Since(started))
	if verdict == Acked {
		return
	}
	s.log.Warn("message "+string(verdict),
		zap.String("message_id", delivery.ID),
		zap.String("type", delivery.Type),
		zap.String("correlation_id", delivery.CorrelationID),
		zap.Int("attempt", delivery.Attempt),
		zap.Bool("permanent", IsPermanent(err)),
		zap.Error(err))
}

// attempt calls the handler; on a queue that keeps order, more than once.
func (s *subscription) attempt(ctx context.Context, d *Delivery) error {
	err := s.call(ctx, d)
	if s.retryInside <= 0 {
		return err
	}
	giveUp := time.Now().Add(s.retryInside)
	for wait := newBackoff(5 * time.Second); err != nil && !IsPermanent(err); err = s.call(ctx, d) {
		if time.Now().After(giveUp) {
			return Permanent(fmt.Errorf("still failing after %s: %w", s.retryInside, err))
		}
		s.log.Warn("attempt failed, trying again in place",
			zap.String("message_id", d.ID), zap.String("correlation_id", d.CorrelationID), zap.Error(err))
		if !wait.sleepUnless(ctx, s.draining) {
			return fmt.Errorf("%w: %w", ErrStopping, err)
		}
	}
	return err
}

// call calls the handler with its deadline, and turns a panic into an error.
func (s *subscription) call(ctx context.Context, d *Delivery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", zap.String("message_id", d.ID), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	return s.handler.Handle(ctx, d)
}

// settle carries the verdict out, on the channel that the delivery came by and on
// no other.
func (s *subscription) settle(ctx context.Context, d amqp.Delivery, delivery *Delivery, err error) Verdict {
	if s.autoAck {
		if err != nil {
			return Dropped
		}
		return Acked
	}
	if isDone(s.ended) {
		return Stale
	}
	stopping := errors.Is(err, ErrStopping) || errors.Is(context.Cause(ctx), ErrStopping)
	switch {
	case err == nil:
		return s.done(s.ack(d), Acked)
	case stopping && !IsPermanent(err):
		s.mu.Lock()
		s.giveBack = append(s.giveBack, d) // a nack before the cancel would come straight back
		s.mu.Unlock()
		return GivenBack
	case IsPermanent(err) || s.isLastAttempt(delivery):
		return s.park(d, delivery, err)
	default:
		return s.done(s.reject(d, true), Rejected)
	}
}

// ack acknowledges. On a queue that keeps order the last acknowledgement comes
// behind a cancel, or the next message would still come to us.
func (s *subscription) ack(d amqp.Delivery) error {
	if !s.finishToOrder {
		return s.acks.ack(d.DeliveryTag, time.Now())
	}
	over := s.tenureOver(time.Now())
	if over || isDone(s.draining) {
		if err := s.ch.Cancel(s.tag, true); err != nil {
			return err
		}
	}
	err := s.acks.ack(d.DeliveryTag, time.Now())
	if over {
		close(s.handedOver)
	}
	return err
}

// tenureOver says whether it is another consumer's turn. The tenure begins with the
// first message that is settled: who waits its turn does not know it.
func (s *subscription) tenureOver(now time.Time) bool {
	if s.tenure <= 0 {
		return false
	}
	if s.leave.IsZero() {
		s.leave = now.Add(s.tenure/2 + rand.N(s.tenure))
	}
	return now.After(s.leave)
}

// reject gives a failed message back, or to the dead letters. Only what is
// settled on the wire may be counted as such, or an acknowledgement of "multiple"
// would take it along.
func (s *subscription) reject(d amqp.Delivery, requeue bool) error {
	err := d.Reject(requeue)
	s.acks.settle(d.DeliveryTag)
	return err
}

// done turns a failed settle into Stale: the channel is gone, so is the verdict.
func (s *subscription) done(err error, v Verdict) Verdict {
	if err != nil {
		return Stale
	}
	return v
}

// isLastAttempt says whether the broker would dead-letter the message, without a
// reason, if it failed once more.
func (s *subscription) isLastAttempt(d *Delivery) bool {
	limit := s.queue.DeliveryLimit
	return s.queue.Type == Quorum && limit > 0 && d.Attempt > limit
}

// park publishes a copy with the reason to the dead-letter exchange and then
// acknowledges the original. A crash in between leaves two copies with one
// message id. If the copy cannot be published the broker dead-letters the
// original itself, without a reason.
func (s *subscription) park(d amqp.Delivery, delivery *Delivery, reason error) Verdict {
	if s.queue.DeadLetter == nil {
		return s.done(s.ack(d), Dropped)
	}
	ctx, cancel := context.WithTimeout(context.Background(), parkTimeout)
	defer cancel()
	dead := delivery.Message
	if dead.ID == "" { // nothing else is sent without one
		dead.ID = uuid.NewString()
	}
	dead.UserID = "" // the broker takes our own only; the original is in a header
	dead.Expiration = 0
	dead.Headers = map[string]any{}
	maps.Copy(dead.Headers, delivery.Headers)
	for _, h := range notForCopies {
		delete(dead.Headers, h)
	}
	dead.Headers[HeaderDeadReason] = truncate(reason.Error(), maxReason)
	dead.Headers[HeaderDeadAttempts] = int64(delivery.Attempt)
	dead.Headers[HeaderDeadOrigin] = delivery.Exchange
	dead.Headers[HeaderDeadUser] = delivery.UserID
	err := s.conn.parking().Publish(ctx, Route{Exchange: s.queue.DeadLetter.Exchange, Key: s.queue.DeadLetter.Key}, dead)
	if err != nil {
		s.log.Error("parking failed, the broker dead-letters it without the reason",
			zap.String("message_id", delivery.ID), zap.Error(err))
		return s.done(s.reject(d, false), Parked)
	}
	return s.done(s.ack(d), Parked)
}

// truncate cuts s to at most n bytes, at a character's border.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// newDelivery puts the client library's delivery into our form.
func newDelivery(d amqp.Delivery, queue string) *Delivery {
	out := &Delivery{
		Message: Message{
			ID:              d.MessageId,
			Type:            d.Type,
			CorrelationID:   d.CorrelationId,
			Priority:        d.Priority,
			Transient:       d.DeliveryMode != amqp.Persistent,
			ReplyTo:         d.ReplyTo,
			AppID:           d.AppId,
			UserID:          d.UserId,
			Timestamp:       d.Timestamp,
			ContentType:     d.ContentType,
			ContentEncoding: d.ContentEncoding,
			Headers:         d.Headers,
			Body:            d.Body,
		},
		Queue:       queue,
		Exchange:    d.Exchange,
		Key:         d.RoutingKey,
		Redelivered: d.Redelivered,
		ConsumerTag: d.ConsumerTag,
		Attempt:     1,
	}
	if ms, err := strconv.ParseInt(d.Expiration, 10, 64); err == nil {
		out.Expiration = time.Duration(ms) * time.Millisecond
	}
	if d.Redelivered {
		out.Attempt = 2
	}
	if count, ok := integer(d.Headers["x-delivery-count"]); ok {
		out.Attempt = int(count) + 1
	}
	if count, ok := integer(d.Headers["x-acquired-count"]); ok {
		out.Acquired = int(count)
	}
	if offset, ok := integer(d.Headers["x-stream-offset"]); ok {
		out.Offset = offset
	}
	out.Deaths = deaths(d.Headers["x-death"])
	return out
}

// deaths reads the header x-death, and passes over what is not as the broker
// writes it: anybody may put a header of that name into a message.
func deaths(header any) []Death {
	list, _ := header.([]any)
	var out []Death
	for _, entry := range list {
		table, _ := entry.(amqp.Table)
		queue, _ := table["queue"].(string)
		reason, _ := table["reason"].(string)
		count, _ := integer(table["count"])
		if queue != "" && reason != "" {
			out = append(out, Death{Queue: queue, Reason: reason, Count: count})
		}
	}
	return out
}

// integer reads a header that may be any of AMQP's integer types.
func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int32:
		return int64(n), true
	case int16:
		return int64(n), true
	case int8:
		return int64(n), true
	case byte:
		return int64(n), true
	default:
		return 0, false
	}
}

func uniqueTag(name string) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make a consumer tag: %w", err)
	}
	return name + "-" + id.String(), nil
}
