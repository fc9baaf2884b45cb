package messaging

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// Headers of a parked message.
const (
	HeaderDeadReason   = "dead-reason"   // the handler's error
	HeaderDeadAttempts = "dead-attempts" // how often it was tried
	HeaderDeadOrigin   = "dead-origin"   // the exchange it was published to
	HeaderDeadUser     = "dead-user"     // the user who published it
)

// notForCopies are the headers that a copy must not have: counts of the queue that it was in,
// and CC and BCC, by which the broker would route it to other queues.
var notForCopies = []string{"x-delivery-count", "x-acquired-count", "CC", "BCC"}

// maxReason bounds the reason in a header, in bytes.
const maxReason = 1024

// parkTimeout bounds the publish of a parked copy.
const parkTimeout = 10 * time.Second

// park publishes a copy with the reason to the dead-letter exchange and then
// acknowledges the original. A crash in between leaves two copies with one
// message id. If the copy cannot be published, or if the queue's description has no
// dead letters, the broker dead-letters the original itself, without a reason.
func (s *subscription) park(j *job) Verdict {
	if s.queue.DeadLetter == nil {
		return s.done(s.reject(j.raw, false), Discarded)
	}
	if err := s.publishDead(j); err != nil {
		s.log.Error("parking failed, the broker dead-letters the message without the reason",
			zap.String("message_id", j.raw.MessageId), zap.Error(err))
		return s.done(s.reject(j.raw, false), Parked)
	}
	return s.done(s.ack(j.raw.DeliveryTag), Parked)
}

// publishDead publishes the copy of a message as it came, whatever its handler has done
// to the delivery.
func (s *subscription) publishDead(j *job) error {
	dead := newDelivery(j.raw, s.queueName).Message
	if dead.ID == "" { // a message without an id is not sent
		dead.ID = uuid.NewString()
	}
	dead.UserID = "" // the broker accepts only our own; the original one is in a header
	dead.Expiration = 0
	dead.Headers = map[string]any{}
	maps.Copy(dead.Headers, j.raw.Headers)
	for _, h := range notForCopies {
		delete(dead.Headers, h)
	}
	dead.Headers[HeaderDeadReason] = j.out.text
	dead.Headers[HeaderDeadAttempts] = int64(j.attempt)
	dead.Headers[HeaderDeadOrigin] = j.raw.Exchange
	dead.Headers[HeaderDeadUser] = j.raw.UserId
	err := errors.New("an observer has ended its goroutine")
	aside(s.log, "parking", func() {
		ctx, cancel := context.WithTimeout(context.Background(), parkTimeout)
		defer cancel()
		err = s.conn.parking().Publish(ctx, Route{Exchange: s.queue.DeadLetter.Exchange, Key: s.queue.DeadLetter.Key}, dead, asReceived())
	})
	return err
}

// truncate cuts s to at most n bytes, between two characters.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
