package messaging

import (
	"context"
	"reflect"
	"slices"
)

// Delivery is a message as a consumer gets it. It has no Ack: the consumer settles the
// message as the error says that the handler returns.
type Delivery struct {
	Message
	// Queue is the queue that it was taken from.
	Queue string
	// Exchange and Key are those that it was published with. The broker sets them, and
	// exchange-to-exchange bindings do not change them. Dead-lettering does: then they are
	// the dead-letter exchange and key.
	Exchange, Key string
	// Redelivered says that it may have been delivered before.
	Redelivered bool
	// Attempt counts from 1. On quorum queues the broker counts (x-delivery-count + 1), and
	// goes on counting when it dead-letters the message into another queue, as it does when
	// a parked copy cannot be published. On other queues it begins with 1, or with 2 for a
	// redelivered message, and the consumer counts from there. A message that was not
	// redelivered is at its first attempt, whatever its headers say: see docs/security.md
	// for numbers in headers that the broker has not set.
	Attempt int
	// Acquired counts how often a quorum queue has delivered the message before
	// (x-acquired-count), including deliveries that did not count as an attempt.
	Acquired int
	// Deaths says where and why it was dead-lettered, the latest first (x-death).
	Deaths []Death
	// ConsumerTag names the subscription that got it.
	ConsumerTag string
	// Offset is the position in a stream, and 0 elsewhere.
	Offset int64
}

// Death is one reason for which a message was dead-lettered from one queue.
type Death struct {
	Queue string
	// Reason is rejected, expired, maxlen or delivery_limit.
	Reason string
	// Count is how often that happened.
	Count int64
}

// Handler handles one delivery. The returned error decides what happens to the message:
//
//	nil                                   acknowledged
//	Permanent(err)                        parked in the dead-letter queue with its reason
//	any error on the last allowed attempt the same
//	any other error, a panic, a deadline  a failed attempt: delivered again after the
//	                                      queue's delay
//	RetryInPlace(err)                     not an attempt: the handler is called again soon;
//	                                      after its timeout, as any other error
//	GiveBack(err, after)                  not an attempt: given back, the consumer goes on
//	Unavailable(err)                      not an attempt: given back, the consumer pauses
//	an error because of ErrStopping       given back, see [Consumer.Drain]
//
// It is a failed attempt too when the handler ends its goroutine (runtime.Goexit), or when
// a method of the error panics. When an error has several marks the first one in this order
// counts: Permanent, Unavailable, GiveBack, RetryInPlace.
//
// The [Retry] of the queue says what follows a failed attempt. The consumer does what the
// broker does not do on this kind of queue:
//
//	queue                          delay                          attempts, then as Permanent
//	quorum, with MinDelay          the broker's                   Limit+1
//	quorum                         the worker waits, and rejects  Limit+1
//	classic, or no Type            in place: the worker keeps     Limit+1, counted anew by
//	                               the message                    each consumer
//	SingleActiveConsumer, or       in place                       as many as there is time for
//	InPlace
//	SingleActiveConsumer, with     the worker waits, and rejects  Limit+1
//	InPlace below 0
//	exclusive, or AutoAck          none                           1, then the error is logged
//
// A Limit of 0 is 20. The delays are MinDelay times the number of failures, at most
// MaxDelay; without them 100 ms, doubling to 5 s.
//
// What happens with Permanent depends on the DeadLetter of the queue's description:
//
//	DeadLetter                     a copy with the reason is published there, and the
//	                               message acknowledged: the verdict is Parked
//	none                           rejected without requeue; the broker dead-letters it if
//	                               the queue is set up so: the verdict is Discarded
//
// With [Concurrency] above 1 a handler is called concurrently. It must expect every message
// more than once.
type Handler interface {
	Handle(ctx context.Context, d *Delivery) error
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, d *Delivery) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, d *Delivery) error { return f(ctx, d) }

// isNil says whether a handler is nil or a nil function.
func isNil(h any) bool {
	v := reflect.ValueOf(h)
	return h == nil || v.Kind() == reflect.Func && v.IsNil()
}

// Middleware wraps a Handler, to do something for every message.
type Middleware func(Handler) Handler

// Chain wraps h in the middleware; the first one is the outermost. Nil middleware is left
// out, and a nil handler stays nil.
func Chain(h Handler, middleware ...Middleware) Handler {
	if isNil(h) {
		return nil
	}
	for _, m := range slices.Backward(middleware) {
		if m != nil {
			h = m(h)
		}
	}
	return h
}
