package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrClosed is returned by every call on something that was closed by its owner.
	ErrClosed = errors.New("messaging: closed")
	// ErrConnectionLost says that the connection or channel ended while the
	// outcome was open: the broker may or may not have the message. Publish again
	// with the same message id; consumers recognise it.
	ErrConnectionLost = errors.New("messaging: connection lost, outcome unknown")
	// ErrRefused says that the broker closed the channel, or the connection, over a
	// message: no such exchange, no right to write, a false user id.
	//
	// Without ErrConnectionLost that is known to be over this message, which is stored
	// nowhere, or in the words of the protocol 541 perhaps not everywhere; to publish it
	// again as it is helps only when the broker has changed. With ErrConnectionLost it
	// was over this message or another one that was on its way at the same time, and
	// nobody knows which are stored: publish them again one by one.
	ErrRefused = errors.New("messaging: refused by the broker")
	// ErrTooManyChannels says that a connection has all the channels that the broker
	// allows, 2,047 by default: by publishers or callers that are made again and again,
	// for each message perhaps, and never closed. Nothing was sent.
	ErrTooManyChannels = errors.New("messaging: no channel left, close publishers and callers that are not needed any more")
	// ErrInvalid says that AMQP, the client library or the broker cannot carry a
	// message: it has no id, a name that is too long or not UTF-8, a header of a strange
	// type, a body that is too large. The error names the field. Nothing was sent, and
	// nothing will make it work; see [Message.Validate].
	ErrInvalid = errors.New("messaging: invalid message")
	// ErrNacked says that the broker refused the message, for example because a
	// queue with reject-publish is full. It is stored nowhere or not everywhere.
	ErrNacked = errors.New("messaging: nacked by the broker")
	// ErrUnroutable says that no queue takes the message and the exchange has no
	// alternate. The error is a *[ReturnedError].
	ErrUnroutable = errors.New("messaging: unroutable")
	// ErrNotFound says that there is no such queue.
	ErrNotFound = errors.New("messaging: not found")
	// ErrBrokerTooOld is returned by Connect for a broker below RabbitMQ 4.3.1.
	ErrBrokerTooOld = errors.New("messaging: broker too old")
	// ErrStopping is the cause of a handler's context when its consumer stops at
	// once. A handler that returns because of it gives its message back, see [Consumer.Drain].
	ErrStopping = errors.New("messaging: consumer is stopping")
	// ErrUnknownType says that a [Mux] has no handler for a message's type.
	ErrUnknownType = errors.New("messaging: unknown message type")
	// ErrUntrustedSource says that a message came from a user or an exchange that
	// may not send its type.
	ErrUntrustedSource = errors.New("messaging: untrusted source")
	// ErrUndecodable says that a body is not what its type promises.
	ErrUndecodable = errors.New("messaging: undecodable body")
)

// ended is the error of what a context has ended. why is what it had waited for: as text
// only, so that errors.Is finds what the context says, and nothing that has been before.
func ended(ctx context.Context, why string) error {
	return fmt.Errorf("%w (%s)", context.Cause(ctx), why)
}

// Permanent marks an error that no retry will cure: the message is parked in its
// dead-letter queue at once, with the error as its reason. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent says whether err, or an error that it wraps, was made by [Permanent].
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Unavailable marks an error that is not the message's fault: what its handler needs,
// such as a database or somebody else's system, is away. That is not an attempt, so
// nothing is parked however long it lasts: the consumer gives all that it has in hand
// back, pauses for 1 s to 30 s, and tries again with one message, then two, and up to
// 32. On a queue that keeps order it keeps the message, and tries again in place after the
// same pauses, also through consumer timeouts. [Conn.Ready] and an [AwayObserver] say what is away.
//
// A message that alone fails so, while others of its queue that began later are handled,
// has failed like with any other error. So messages that need different things belong
// into queues of their own. A message that has its queue to itself is tried for ever, and
// so is one on a queue that keeps order, which holds the others up meanwhile.
//
// An exclusive queue and [AutoAck] know no pause: the error is logged. [Serve] answers it.
// Unavailable(nil) is nil.
func Unavailable(err error) error { return UnavailableFor(err, 0) }

// UnavailableFor is [Unavailable] where somebody has said for how long, as HTTP's
// Retry-After does: the pause is at least that, and at most 5 min.
func UnavailableFor(err error, pause time.Duration) error {
	if err == nil {
		return nil
	}
	return &unavailableError{err, pause}
}

// IsUnavailable says whether err, or an error that it wraps, was made by [Unavailable]
// or [UnavailableFor]. What is also [Permanent] is not.
func IsUnavailable(err error) bool {
	var u *unavailableError
	return errors.As(err, &u) && !IsPermanent(err)
}

type unavailableError struct {
	err   error
	pause time.Duration
}

func (e *unavailableError) Error() string { return e.err.Error() }
func (e *unavailableError) Unwrap() error { return e.err }

// GiveBack marks an error of a message that is for somebody else, or for later: it goes
// back to its queue, where another consumer may get it, and that is no attempt. Its worker
// waits before, since the broker sends it again at once: for after, at least 100 ms and at
// most 5 min, or half the queue's ConsumerTimeout. On a queue that keeps order the others
// wait behind it.
//
// Nothing bounds how often that happens: [Delivery.Acquired] counts it on a quorum queue.
// On a classic queue the message comes back as its second attempt, whichever it was. An
// exclusive queue and [AutoAck] log the error, and [Serve] answers it. GiveBack(nil, after)
// is nil.
func GiveBack(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &givenBackError{err, after}
}

type givenBackError struct {
	err   error
	after time.Duration
}

func (e *givenBackError) Error() string { return e.err.Error() }
func (e *givenBackError) Unwrap() error { return e.err }

// RetryInPlace marks an error that is over in a moment, such as a conflict of two
// transactions: the consumer keeps the message and calls the handler again, after 100 ms,
// doubling to 5 s. That is no attempt. All tries together have the [HandlerTimeout]; the
// error that is left when it is over is as any other. On a queue whose retries are in
// place anyway, see [Retry], it changes nothing. An exclusive queue and [AutoAck] log the
// error, and [Serve] answers it. RetryInPlace(nil) is nil.
func RetryInPlace(err error) error {
	if err == nil {
		return nil
	}
	return &retryInPlaceError{err}
}

type retryInPlaceError struct{ err error }

func (e *retryInPlaceError) Error() string { return e.err.Error() }
func (e *retryInPlaceError) Unwrap() error { return e.err }

// doneError is of a message that is finished although it failed, as a call that was
// answered: it is acknowledged, and the error is for the log.
type doneError struct{ err error }

func (e *doneError) Error() string { return e.err.Error() }
func (e *doneError) Unwrap() error { return e.err }

// done makes an error a doneError. done(nil) is nil.
func done(err error) error {
	if err == nil {
		return nil
	}
	return &doneError{err}
}

// ReturnedError is a mandatory message that came back because nothing is bound
// for it (basic.return). errors.Is(err, [ErrUnroutable]) holds.
type ReturnedError struct {
	MessageID string
	Route     Route
	// Code and Text are the broker's: 312 NO_ROUTE.
	Code uint16
	Text string
}

// Error names the exchange, the key, the message and the broker's reason.
func (e *ReturnedError) Error() string {
	return fmt.Sprintf("messaging: exchange %q returned message %s with key %q: %d %s",
		e.Route.Exchange, e.MessageID, e.Route.Key, e.Code, e.Text)
}

// Is makes a ReturnedError an [ErrUnroutable].
func (e *ReturnedError) Is(target error) bool { return target == ErrUnroutable }

// BatchError says which messages of a batch were not published, see
// [Publisher.PublishBatch]. errors.Is and errors.As find what any of them failed with.
type BatchError struct {
	// Messages is how many the batch has.
	Messages int
	// Failed are those that are not known to be stored, in the order of the batch.
	Failed []FailedMessage
}

// FailedMessage is a message of a batch, by its index, that is not known to be stored.
type FailedMessage struct {
	Index     int
	MessageID string
	// Err is what [Publisher.Publish] would have returned.
	Err error
}

// Error counts the failed messages, and has the error of the first.
func (e *BatchError) Error() string {
	return fmt.Sprintf("messaging: %d of %d messages failed, the first: %v", len(e.Failed), e.Messages, e.Failed[0].Err)
}

// Unwrap gives the errors of all that failed.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// RemoteError is the coded answer of an RPC server: the call arrived, and the
// server refused it. Code is the caller's to switch on, Message is for people.
type RemoteError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Fields names what was wrong in the request, where that is known.
	Fields map[string]string `json:"fields,omitempty"`
}

// Error has the code and the message, and leaves the fields out.
func (e *RemoteError) Error() string { return "messaging: remote: " + e.Code + ": " + e.Message }
