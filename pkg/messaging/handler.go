package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
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
	// Attempt counts from 1. It is exact on quorum queues (x-delivery-count + 1), and
	// goes on from there when the broker itself dead-letters the message into another
	// queue, as it does when a parked copy cannot be published; elsewhere it is 1, or 2
	// for a redelivered message.
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
//	an error because of ErrStopping       given back, see [Consumer.Drain]
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

// Middleware wraps a Handler with something that every message needs.
type Middleware func(Handler) Handler

// Chain wraps h in the middleware, the first one outermost.
func Chain(h Handler, middleware ...Middleware) Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		h = middleware[i](h)
	}
	return h
}

// JSON makes a typed function a Handler: it decodes the body into a T. Fields
// that T does not have are ignored. Of content encodings only utf-8, and none, are
// known. A body that does not decode is [Permanent]
// with [ErrUndecodable], since it will not decode the next time either; a T with
// a Validate() error method is checked in the same way.
func JSON[T any](handle func(ctx context.Context, d *Delivery, body T) error) Handler {
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		body, err := decode[T](d)
		if err != nil {
			return Permanent(err)
		}
		return handle(ctx, d, body)
	})
}

func decode[T any](d *Delivery) (T, error) {
	var body T
	if d.ContentType != contentTypeJSON {
		return body, fmt.Errorf("%w: content type %q", ErrUndecodable, d.ContentType)
	}
	if d.ContentEncoding != "" && !strings.EqualFold(d.ContentEncoding, "utf-8") {
		return body, fmt.Errorf("%w: content encoding %q", ErrUndecodable, d.ContentEncoding)
	}
	if !utf8.Valid(d.Body) { // the decoder would put U+FFFD in its place, and say nothing
		return body, fmt.Errorf("%w: %s: not UTF-8", ErrUndecodable, d.Type)
	}
	if err := json.Unmarshal(d.Body, &body); err != nil {
		return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
	}
	if v, ok := any(body).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
		}
	}
	return body, nil
}

// Timeout is middleware that gives each handler a deadline.
func Timeout(d time.Duration) Middleware {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, delivery *Delivery) error {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return next.Handle(ctx, delivery)
		})
	}
}
