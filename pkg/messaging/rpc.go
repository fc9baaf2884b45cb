package messaging

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// Procedure describes an RPC: the route of the request and the types of the two messages. Req
// and Rep are the Go types of the bodies, encoded by the codecs of the message types. An
// error is always encoded in JSON: see [HeaderError].
type Procedure[Req, Rep any] struct {
	Route   Route
	Request MessageType
	Reply   MessageType
}

// Headers of RPC messages.
const (
	// HeaderDeadline is the deadline of the call, in milliseconds since 1970. The clocks of
	// caller and server must differ by much less than a call may take.
	HeaderDeadline = "rpc-deadline"
	// HeaderError is the code of a reply that is a [RemoteError].
	HeaderError = "rpc-error"
)

// Codes of the errors that [Serve] answers with by itself.
const (
	CodeInvalidRequest = "invalid_request"
	CodeUnavailable    = "unavailable"
)

// Call calls a procedure and waits for the answer. ctx must have a deadline. The request
// carries it: at the deadline the request expires in its queue, and a server that takes it
// later does not handle it.
//
// Errors: *[RemoteError] when the server refused the request; [ErrUnroutable] when no queue
// takes it; [ErrConnectionLost] as soon as the connection is lost, because the answer is
// lost too; the error of ctx. After the last two the request may have been handled all the
// same, so procedures must be idempotent or have no side effects.
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
	m.Transient = true // it is of no use after its deadline
	m.CorrelationID = m.ID
	m.Headers = map[string]any{HeaderDeadline: deadline.UnixMilli()}
	answer, err := c.call(ctx, p.Route, m)
	if err != nil {
		return reply, fmt.Errorf("call %s: %w", p.Request.Name, err)
	}
	if reply, err = read[Rep](p.Reply, answer); err != nil {
		return reply, fmt.Errorf("call %s: %w", p.Request.Name, err)
	}
	return reply, nil
}

// read decodes an answer, if it comes from the server.
func read[Rep any](kind MessageType, answer *Delivery) (reply Rep, err error) {
	if answer.Type != kind.Name || !kind.owns(answer.UserID) {
		return reply, fmt.Errorf("%w: reply %q from %q", ErrUntrustedSource, answer.Type, answer.UserID)
	}
	if _, failed := answer.Headers[HeaderError]; !failed {
		return decode[Rep](kind.Codec, answer)
	}
	remote, err := decode[RemoteError](JSONCodec{}, answer)
	if err != nil {
		return reply, err
	}
	return reply, &remote
}

// replyTimeout bounds the publish of an answer.
const replyTimeout = 5 * time.Second

// Serve makes a function the handler of a procedure's requests. A request gets one answer and
// is acknowledged. A *[RemoteError] of the function is the answer as it is. A request that
// cannot be decoded is answered with "invalid_request". Any other error, a panic, and a
// reply that cannot be sent (too large, not JSON) are answered with "unavailable"; their text
// is only logged. The function's context ends at the caller's deadline or after the
// consumer's [HandlerTimeout]; the answer is sent even then.
//
// A request whose deadline has passed, or that has no reply-to, is dropped without being
// handled. A request that the function gave up because its consumer stops ([ErrStopping]) or
// has lost its connection is not answered: it goes back to its queue, for another server.
//
// The answer has the correlation id of the request, even if that is not UTF-8. A reply-to
// that is not UTF-8 cannot be answered: the broker would close the connection.
//
// An answer to a caller that is gone is lost without an error. The request is acknowledged
// when the answer is confirmed; an answer whose confirm is lost is sent again, with the same
// message id. With a publisher [WithoutConfirms] the request is acknowledged earlier, when
// the answer is on its way. If the connection is lost then, so is the answer, and the call
// ends at its deadline.
func Serve[Req, Rep any](p *Publisher, proc Procedure[Req, Rep], serve func(ctx context.Context, d *Delivery, request Req) (Rep, error)) Handler {
	if p == nil || serve == nil {
		return nil
	}
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		if d.ReplyTo == "" {
			return done(errors.New("request without reply-to"))
		}
		if ms, ok := integer(d.Headers[HeaderDeadline]); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, time.UnixMilli(ms))
			defer cancel()
		}
		if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
			return done(fmt.Errorf("request came too late: %w", err))
		}
		var m Message
		back, err := false, errors.New("procedure ended its goroutine (runtime.Goexit)")
		aside(p.conn.config.Logger, "procedure", func() { // it may end its goroutine; its caller is to get an answer all the same
			m, back, err = attempt(ctx, p.conn.config.Logger, proc, d, serve)
		})
		if back {
			return err
		}
		return done(errors.Join(err, respond(ctx, p, proc.Reply, d, m)))
	})
}

// respond sends an answer. An empty one, and one that cannot be sent because it is too large,
// for example, is replaced by "unavailable". When the connection is lost, it is sent again
// and may arrive twice.
func respond(ctx context.Context, p *Publisher, kind MessageType, d *Delivery, m Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	var why error // why the caller gets "unavailable"
	for {
		if m.ID == "" {
			var err error
			if m, err = refusal(kind, unavailable); err != nil {
				return errors.Join(why, err)
			}
		}
		m.Transient = true
		err := reply(ctx, p, Route{Key: d.ReplyTo}, m, d.CorrelationID)
		switch {
		case err == nil:
			return why
		case errors.Is(err, ErrConnectionLost):
			continue
		case why == nil && (errors.Is(err, ErrInvalid) || errors.Is(err, ErrRefused)):
			m, why = Message{}, fmt.Errorf("the reply cannot be sent: %w", err)
		default:
			return errors.Join(why, fmt.Errorf("send the reply: %w", err))
		}
	}
}

// reply publishes an answer. It has the correlation id of the request, also one that would be
// refused in our own messages.
func reply(ctx context.Context, p *Publisher, to Route, m Message, correlationID string) error {
	if checkText(correlationID) == nil {
		m.CorrelationID = correlationID
		return p.Publish(ctx, to, m, AllowUnroutable())
	}
	m.CorrelationID = ""
	if err := p.conn.validate(to, &m); err != nil {
		return err
	}
	m.CorrelationID = correlationID
	return p.Publish(ctx, to, m, AllowUnroutable(), asReceived())
}

// attempt decodes a request, serves it and makes the answer. back says that there is no
// answer because the request goes to another server. The error is only for the log. A panic
// is an error like any other: without this the consumer would retry the request, and the
// caller would get no answer.
func attempt[Req, Rep any](ctx context.Context, log *zap.Logger, proc Procedure[Req, Rep], d *Delivery, serve func(context.Context, *Delivery, Req) (Rep, error)) (m Message, back bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("procedure panicked", zap.String("message_id", d.ID), zap.String("type", d.Type), zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
			m, back, err = Message{}, false, fmt.Errorf("procedure panicked: %v", p)
		}
	}()
	request, err := decode[Req](proc.Request.Codec, d)
	if err != nil {
		m, err = refusal(proc.Reply, &RemoteError{Code: CodeInvalidRequest, Message: err.Error()})
		return m, false, err
	}
	reply, err := serve(ctx, d, request)
	if takenBack(ctx, err) {
		return m, true, err
	}
	m, err = answer(proc.Reply, reply, err)
	return m, false, err
}

var unavailable = &RemoteError{Code: CodeUnavailable, Message: "the call failed, try again"}

// answer makes the message that the caller gets. The error is only for the log.
func answer(kind MessageType, reply any, err error) (Message, error) {
	if err == nil {
		var m Message
		if m, err = NewMessage(kind, reply); err == nil {
			return m, nil
		}
	}
	var remote *RemoteError
	if errors.As(err, &remote) && remote != nil {
		return refusal(kind, remote)
	}
	m, encodeErr := refusal(kind, unavailable)
	return m, errors.Join(err, encodeErr)
}

// refusal is the answer with an error. It is in JSON, whatever the codec of the replies is.
func refusal(kind MessageType, remote *RemoteError) (Message, error) {
	kind.Codec = JSONCodec{}
	m, err := NewMessage(kind, remote)
	m.Headers = map[string]any{HeaderError: remote.Code}
	return m, err
}

// takenBack says whether a request that failed goes back for another server.
func takenBack(ctx context.Context, err error) bool {
	cause := context.Cause(ctx)
	return err != nil && !IsPermanent(err) && (errors.Is(cause, ErrStopping) || errors.Is(cause, ErrConnectionLost))
}
