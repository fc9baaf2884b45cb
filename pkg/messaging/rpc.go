package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Procedure is something that can be called over RPC: where the request goes and
// the types of the two messages. Req and Rep are the structs of their bodies.
type Procedure[Req, Rep any] struct {
	Route   Route
	Request MessageType
	Reply   MessageType
}

// Headers of RPC messages.
const (
	// HeaderDeadline is when the caller gives up, in milliseconds since 1970. It
	// wants clocks that agree to well under a call's deadline.
	HeaderDeadline = "rpc-deadline"
	// HeaderError is set on a reply that is a [RemoteError], to its code.
	HeaderError = "rpc-error"
)

// Codes of the errors that [Serve] answers with by itself.
const (
	CodeInvalidRequest = "invalid_request"
	CodeUnavailable    = "unavailable"
)

// Call calls a procedure and waits for the answer. ctx must have a deadline: it
// travels with the request, which expires in its queue when the deadline passes,
// and a request that is taken later still is not handled.
//
// Errors: *[RemoteError] when the server refused; [ErrUnroutable] when there is
// no queue for the call; [ErrConnectionLost] as soon as the connection is lost,
// for then the answer is lost too; ctx's own error. After each of the last two the
// call may have been handled all the same, so procedures have no side effects or
// are idempotent.
func Call[Req, Rep any](ctx context.Context, c *Caller, p Procedure[Req, Rep], request Req) (Rep, error) {
	var reply Rep
	deadline, ok := ctx.Deadline()
	if !ok {
		return reply, fmt.Errorf("call %s: the context has no deadline", p.Request.Name)
	}
	m, err := NewMessage(p.Request, request)
	if err != nil {
		return reply, err
	}
	m.Transient = true // worth nothing after its deadline
	m.CorrelationID = m.ID
	m.Expiration = time.Until(deadline)
	m.Headers = map[string]any{HeaderDeadline: deadline.UnixMilli()}
	answer, err := c.call(ctx, p.Route, m)
	if err != nil {
		return reply, fmt.Errorf("call %s: %w", p.Request.Name, err)
	}
	if answer.Type != p.Reply.Name || answer.UserID != p.Reply.Owner {
		return reply, fmt.Errorf("call %s: %w: reply %q from %q", p.Request.Name, ErrUntrustedSource, answer.Type, answer.UserID)
	}
	if _, failed := answer.Headers[HeaderError]; failed {
		var remote RemoteError
		if err := json.Unmarshal(answer.Body, &remote); err != nil {
			return reply, fmt.Errorf("call %s: %w: %w", p.Request.Name, ErrUndecodable, err)
		}
		return reply, fmt.Errorf("call %s: %w", p.Request.Name, &remote)
	}
	if reply, err = decode[Rep](answer); err != nil {
		return reply, fmt.Errorf("call %s: %w", p.Request.Name, err)
	}
	return reply, nil
}

// Serve makes a function the handler of a procedure's requests. Whatever happens,
// there is one answer and the request is acknowledged: a *[RemoteError] goes back
// as it is, an undecodable request as "invalid_request", any other error as
// "unavailable" without its text. A request whose deadline has passed is dropped
// unhandled, and the function's context ends with the deadline.
//
// An answer to a caller that is gone is lost, and nobody is told. The request is
// acknowledged when the answer is confirmed; with a publisher [WithoutConfirms] when
// it is on its way, which is sooner, and a connection that breaks then takes the
// answer along: the caller's deadline tells it.
func Serve[Req, Rep any](p *Publisher, proc Procedure[Req, Rep], serve func(ctx context.Context, d *Delivery, request Req) (Rep, error)) Handler {
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		if d.ReplyTo == "" {
			return Permanent(errors.New("request without reply-to"))
		}
		if ms, ok := integer(d.Headers[HeaderDeadline]); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, time.UnixMilli(ms))
			defer cancel()
		}
		if err := ctx.Err(); err != nil {
			return Permanent(fmt.Errorf("request came too late: %w", err))
		}
		var reply any
		request, err := decode[Req](d)
		if err != nil {
			err = &RemoteError{Code: CodeInvalidRequest, Message: err.Error()}
		} else {
			reply, err = serve(ctx, d, request)
		}
		var remote *RemoteError
		refused := errors.As(err, &remote)
		if err != nil && !refused {
			remote = &RemoteError{Code: CodeUnavailable, Message: "the call failed, try again"}
		}
		if remote != nil {
			reply = remote
		}
		m, encodeErr := NewMessage(proc.Reply, reply)
		if encodeErr != nil {
			return Permanent(encodeErr)
		}
		if remote != nil {
			m.Headers = map[string]any{HeaderError: remote.Code}
		}
		m.Transient = true
		m.CorrelationID = d.CorrelationID
		if sendErr := p.Publish(ctx, Route{Key: d.ReplyTo}, m, AllowUnroutable()); sendErr != nil {
			return Permanent(fmt.Errorf("send the reply: %w", sendErr))
		}
		if refused {
			return nil
		}
		return Permanent(err) // nil, or answered and here only to be logged
	})
}
