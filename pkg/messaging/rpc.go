package messaging

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// Procedure is something that can be called over RPC: where the request goes and
// the types of the two messages. Req and Rep are what their bodies hold, by the codecs of
// their types. An error is in JSON all the same: see [HeaderError].
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

// read takes an answer for what it is, if it comes from the server.
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

// Serve makes a function the handler of a procedure's requests. There is one answer
// to a request, and the request is acknowledged: a *[RemoteError] goes back as it
// is, an undecodable request as "invalid_request", any other error, a panic and a reply
// that cannot be sent (too large, not JSON) as "unavailable" without its text, and the
// log says why. The function's context ends with the caller's
// deadline or the consumer's [HandlerTimeout], and the answer is sent even then.
//
// Not answered are a request whose deadline has passed or that names nobody to
// answer, which is dropped unhandled, and one that the function gave up because its
// consumer stops ([ErrStopping]) or has lost its connection: that goes back to its
// queue, for another server.
//
// The correlation id goes back as it came, text or not. A reply-to that is not UTF-8 cannot
// be answered: the broker would close the connection.
//
// An answer to a caller that is gone is lost, and nobody is told. The request is
// acknowledged when the answer is confirmed; an answer whose confirm is lost is sent
// again, with the same message id. With a publisher [WithoutConfirms] it is acknowledged
// when the answer is on its way, which is sooner, and a connection that breaks then takes
// the answer along: the caller's deadline tells it.
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
		aside(p.conn.config.Logger, "procedure", func() { // it may end it, and its caller waits all the same
			m, back, err = attempt(ctx, p.conn.config.Logger, proc, d, serve)
		})
		if back {
			return err
		}
		return done(errors.Join(err, respond(ctx, p, proc.Reply, d, m)))
	})
}

// respond sends an answer; an empty one is "unavailable". So is one that cannot be sent,
// because it is too large, for example. When the connection is lost over it, or over
// another one, it goes out again, perhaps for the second time.
func respond(ctx context.Context, p *Publisher, kind MessageType, d *Delivery, m Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	var why error // the caller is told "unavailable"
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

// reply publishes an answer. A correlation id goes back as it came, also one that would be
// refused of our own messages.
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

// attempt decodes a request, serves it and makes the answer, and says whether there shall
// be none, because the request goes to another server. The error is what the caller is not
// told. A panic is an error like any other: the consumer would make a retry of it, and the
// caller would hear nothing.
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

// answer makes the message that the caller gets. The error is what it is not told.
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

// refusal is the answer that is an error, in JSON whatever the replies are.
func refusal(kind MessageType, remote *RemoteError) (Message, error) {
	kind.Codec = JSONCodec{}
	m, err := NewMessage(kind, remote)
	m.Headers = map[string]any{HeaderError: remote.Code}
	return m, err
}

// takenBack says whether a request that failed is another server's now.
func takenBack(ctx context.Context, err error) bool {
	cause := context.Cause(ctx)
	return err != nil && !IsPermanent(err) && (errors.Is(cause, ErrStopping) || errors.Is(cause, ErrConnectionLost))
}
