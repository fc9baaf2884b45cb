package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors for errors.Is.
var (
	// ErrClosed is returned by calls on a Conn, Publisher or Caller that was closed.
	ErrClosed = errors.New("messaging: closed")
	// ErrConnectionLost says that the connection or channel ended before the outcome was
	// known: the broker may or may not have the message. Publish it again with the same
	// message id; consumers recognise it.
	ErrConnectionLost = errors.New("messaging: connection lost, outcome unknown")
	// ErrRefused says that the broker closed the channel or the connection because of a
	// message: there is no such exchange, no right to write, or the user id is wrong.
	//
	// Without ErrConnectionLost this message was the reason. It is not stored, or after an
	// internal error of the broker (541) perhaps in some of its queues. It will be refused
	// again until the exchange or the rights have changed. With ErrConnectionLost the
	// reason was this message or another one that was on its way at the same time, and it
	// is unknown which of them are stored: publish them again one by one.
	ErrRefused = errors.New("messaging: refused by the broker")
	// ErrTooManyChannels says that a connection has as many channels as the broker allows,
	// 2,047 by default. The usual cause is a program that makes a publisher or caller for
	// each message and does not close it. Nothing was sent.
	ErrTooManyChannels = errors.New("messaging: no channel left, close publishers and callers that are not needed any more")
	// ErrInvalid says that AMQP, the client library or the broker cannot carry a message:
	// because it has no id, for example, a name that is too long or not UTF-8, a header of
	// a type that AMQP does not have, or a body that is too large. The error names the
	// field. Nothing was sent, and the same message will never be accepted; see
	// [Message.Validate].
	ErrInvalid = errors.New("messaging: invalid message")
	// ErrNacked says that the broker refused the message (basic.nack), for example because
	// a queue with reject-publish is full. At least one of its queues does not have it.
	ErrNacked = errors.New("messaging: nacked by the broker")
	// ErrUnroutable says that no binding matches the message and that the exchange has no
	// alternate exchange. The error is a *[ReturnedError].
	ErrUnroutable = errors.New("messaging: unroutable")
	// ErrNotFound says that there is no such queue.
	ErrNotFound = errors.New("messaging: not found")
	// ErrBrokerTooOld is returned by Connect for a broker below RabbitMQ 4.3.1.
	ErrBrokerTooOld = errors.New("messaging: broker too old")
	// ErrStopping is the cause of a handler's context when its consumer stops at once. When
	// the handler returns an error because of that, its message is given back: see
	// [Consumer.Drain].
	ErrStopping = errors.New("messaging: consumer is stopping")
	// ErrUnknownType says that a [Mux] has no handler for a message's type.
	ErrUnknownType = errors.New("messaging: unknown message type")
	// ErrUntrustedSource says that a message came from a user, or over an exchange, that
	// its [MessageType] does not allow.
	ErrUntrustedSource = errors.New("messaging: untrusted source")
	// ErrUndecodable says that a body cannot be decoded as its type.
	ErrUndecodable = errors.New("messaging: undecodable body")
)

// ended is the error of a call whose context has ended; why says what the call waited for.
// It is only text: errors.Is is to find the error of the context, and no earlier one.
func ended(ctx context.Context, why string) error {
	return fmt.Errorf("%w (%s)", context.Cause(ctx), why)
}

// Permanent marks an error that a retry cannot solve: the message is parked in the
// dead-letter queue at once, with the error as the reason. Permanent(nil) is nil.
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

// Unavailable marks an error that the message has not caused: something that the handler
// needs, such as a database or an outside system, is not available. It does not count as an
// attempt, so no message is parked because of it, however long it lasts. The consumer gives
// back all messages that it has, pauses for 1 s to 30 s, and tries again with one message,
// then with two, and with up to 32. On a queue with a single active consumer it keeps the
// message and tries again in place after the same pauses, even across consumer timeouts.
// [Conn.Ready] and an [AwayObserver] say what is not available.
//
// When a message returns Unavailable while other messages of its queue that began later
// succeed, that is a failed attempt like any other error. So messages that depend on
// different systems should have different queues. A message that is alone in its queue is
// tried without limit; so is one on a queue with a single active consumer, where the others
// wait behind it.
//
// On an exclusive queue and with [AutoAck] there is no pause: the error is logged. [Serve]
// answers with the error. Unavailable(nil) is nil.
func Unavailable(err error) error { return UnavailableFor(err, 0) }

// UnavailableFor is [Unavailable] with a time after which to try again, as in Retry-After of
// HTTP. The pause is at least that long; more than 5 min counts as 5 min.
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

// GiveBack marks an error of a message that another consumer should handle, or that should
// be handled later: it goes back to its queue, which does not count as an attempt. The
// broker delivers it again at once, so the worker waits before: for the duration after, but at
// least 100 ms and at most 5 min or half of the queue's ConsumerTimeout. On a queue with a
// single active consumer the other messages wait behind it.
//
// A message may be given back any number of times: [Delivery.Acquired] counts them on a
// quorum queue. On a classic queue the message comes back as its second attempt, whichever
// it was before. On an exclusive queue and with [AutoAck] the error is logged. [Serve]
// answers with the error. GiveBack(nil, after) is nil.
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

// RetryInPlace marks an error that will soon be over, such as a conflict of two
// transactions: the consumer keeps the message and calls the handler again after 100 ms,
// doubling to 5 s. This does not count as an attempt. All tries together may take the
// [HandlerTimeout]; after that the last error counts as any other error. On a queue whose
// retries are in place anyway, see [Retry], it has no effect. On an exclusive queue and with
// [AutoAck] the error is logged. [Serve] answers with the error. RetryInPlace(nil) is nil.
func RetryInPlace(err error) error {
	if err == nil {
		return nil
	}
	return &retryInPlaceError{err}
}

type retryInPlaceError struct{ err error }

func (e *retryInPlaceError) Error() string { return e.err.Error() }
func (e *retryInPlaceError) Unwrap() error { return e.err }

// doneError is the error of a message that failed and is to be acknowledged all the same,
// such as a call that was answered with an error. It is for the log.
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

// ReturnedError says that the broker returned a mandatory message because no binding matches
// it (basic.return). errors.Is(err, [ErrUnroutable]) is true.
type ReturnedError struct {
	MessageID string
	Route     Route
	// Code and Text are from the broker: 312 and NO_ROUTE.
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
// [Publisher.PublishBatch]. errors.Is and errors.As find the error of each of them.
type BatchError struct {
	// Messages is the number of messages in the batch.
	Messages int
	// Failed has the messages that are not known to be stored, in the order of the batch.
	Failed []FailedMessage
}

// FailedMessage is a message of a batch, by its index, that is not known to be stored.
type FailedMessage struct {
	Index     int
	MessageID string
	// Err is what [Publisher.Publish] would have returned.
	Err error
}

// Error has the number of failed messages and the error of the first one.
func (e *BatchError) Error() string {
	return fmt.Sprintf("messaging: %d of %d messages failed, the first: %v", len(e.Failed), e.Messages, e.Failed[0].Err)
}

// Unwrap gives the errors of all failed messages.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// RemoteError is an error that an RPC server has answered with: the request arrived, and the
// server refused it. Code is for the calling program, Message is for people.
type RemoteError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Fields says for fields of the request what is wrong with them, if that is known.
	Fields map[string]string `json:"fields,omitempty"`
}

// Error has the code and the message, and leaves the fields out.
func (e *RemoteError) Error() string { return "messaging: remote: " + e.Code + ": " + e.Message }
