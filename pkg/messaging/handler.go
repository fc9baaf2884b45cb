package messaging

import (
	"context"
	"reflect"
	"slices"
)

// Delivery is a message as a consumer gets it. It has no Ack: the error that the
// handler returns is the verdict, and the consumer settles.
type Delivery struct {
	Message
	// Queue is where it was taken from.
	Queue string
	// Exchange and Key are how it was published. The broker sets them, and they
	// survive exchange-to-exchange bindings. They name the exchange that last
	// routed the message: after dead-lettering that is the dead-letter exchange.
	Exchange, Key string
	// Redelivered says that somebody may have seen it before.
	Redelivered bool
	// Attempt counts from 1. On quorum queues it is what the broker counts
	// (x-delivery-count + 1), which goes on when the broker itself dead-letters the
	// message into another queue, as it does when a parked copy cannot be published.
	// Elsewhere it is 1, or 2 for a redelivered message, and what the consumer counts
	// from there. A message that was not redelivered is at its first attempt, whatever its
	// headers say; see docs/security.md for a number in a header that is not the broker's.
	Attempt int
	// Acquired counts how often the message was handed out before, for whatever
	// reason (x-acquired-count, quorum queues), also when that was no attempt.
	Acquired int
	// Deaths are why and where it was dead-lettered, the latest first (x-death).
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
	// Count is how often that has happened.
	Count int64
}

// Handler handles one delivery. The returned error is the verdict:
//
//	nil                                   done: acknowledged
//	Permanent(err)                        parked in the dead-letter queue with its reason
//	any error on the last allowed attempt the same
//	any other error, a panic, a deadline  rejected: delivered again after the queue's delay
//	RetryInPlace(err)                     the handler is called again soon, no attempt; when
//	                                      its timeout is over, as any other error
//	GiveBack(err, after)                  given back, no attempt; the consumer goes on
//	Unavailable(err)                      given back, no attempt; the consumer pauses
//	an error because of ErrStopping       given back, see [Consumer.Drain]
//
// The end of the goroutine (runtime.Goexit) is an attempt as well, and a method of the
// error that panics. Of several marks on one error the first in this order counts:
// Permanent, Unavailable, GiveBack, RetryInPlace.
//
// What a failed attempt leads to is the queue's [Retry]; the consumer does what the broker
// does not:
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
//	exclusive, or AutoAck          none                           1, and the error is only logged
//
// A Limit of 0 is 20. The delays are MinDelay times the number of failures, at most
// MaxDelay; without them 100 ms, doubling to 5 s.
//
// And Permanent depends on where the dead letters are:
//
//	DeadLetter                     a copy with the reason is published there, and the
//	                               message acknowledged: Parked
//	none in the description        rejected without requeue, so that the broker's own
//	                               dead-lettering decides: Discarded
//
// Handlers run concurrently when the consumer says so, and must expect every
// message more than once.
type Handler interface {
	Handle(ctx context.Context, d *Delivery) error
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, d *Delivery) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, d *Delivery) error { return f(ctx, d) }

// isNil says whether there is no handler, or one that is a nil function.
func isNil(h any) bool {
	v := reflect.ValueOf(h)
	return h == nil || v.Kind() == reflect.Func && v.IsNil()
}

// Middleware wraps a Handler with something that every message needs.
type Middleware func(Handler) Handler

// Chain wraps h in the middleware, the first one outermost. What is nil is left out, and
// a nil handler stays nil.
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
