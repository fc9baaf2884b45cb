package messaging

import (
	"context"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Confirmation gets the outcome of a message that was published.
type Confirmation struct {
	message   Message // as it was given
	route     Route
	mandatory bool
	call      bool // it is a request, which expires with its context
	started   time.Time
	observers *observers         // nil if the outcome is not reported
	finish    func(ConfirmEvent) // of a PublishObserver; may be nil

	// Set when the message was sent. Without a session the outcome is known.
	session *session
	wire    *amqp.DeferredConfirmation

	// Guarded by the mutex of the session, if there is one.
	returned *ReturnedError
	settled  bool
	done     chan struct{} // made when it is needed
	err      error
}

// Message gives the message as it was given to [Publisher.PublishAsync]: to publish it again,
// for example.
func (c *Confirmation) Message() Message { return c.message }

// Route gives the route that it was published to.
func (c *Confirmation) Route() Route { return c.route }

// settledAlready is the Done channel of a message that has its outcome.
var settledAlready = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is closed when the outcome is known. While the confirm of an earlier message is late
// this may be some milliseconds later than [Confirmation.Wait] returns.
func (c *Confirmation) Done() <-chan struct{} {
	if c.session == nil {
		return settledAlready
	}
	return c.session.done(c)
}

// Err is the error that [Publisher.Publish] would have returned. It is nil until Done is
// closed.
func (c *Confirmation) Err() error {
	if !isDone(c.Done()) {
		return nil
	}
	return c.err // never written again
}

// Wait waits for the outcome. When ctx is done first it returns the error of ctx, and the
// outcome is unknown.
func (c *Confirmation) Wait(ctx context.Context) error {
	if c.session == nil {
		return c.err
	}
	select {
	case <-c.wire.Done():
		if c.session.settle(c) {
			return c.err
		}
		<-c.session.ended // at once: the channel is closed
		return c.err
	case <-c.session.ended:
		return c.err
	case <-ctx.Done():
	}
	if isDone(c.Done()) { // both have happened: the outcome says more
		return c.err
	}
	return fmt.Errorf("publish %s: outcome unknown: %w", c.message.ID, ended(ctx, c.missing()))
}

// missing says why there is no outcome yet.
func (c *Confirmation) missing() string {
	if missing := c.session.ep.missing(); missing != "" {
		return missing
	}
	return fmt.Sprintf("sent, and not confirmed for %s", time.Since(c.started).Round(time.Millisecond))
}

// resolve sets the outcome of a message that is not on its way.
func (c *Confirmation) resolve(err error) {
	c.err = err
	c.report()
}

// report releases the lane and reports the outcome to observers.
func (c *Confirmation) report() {
	if c.session != nil {
		c.session.lanes.release(c.session.lane)
	}
	if c.observers == nil || len(c.observers.confirm) == 0 && c.finish == nil {
		return
	}
	c.observers.confirmed(c.finish, ConfirmEvent{
		Route: c.route, MessageID: c.message.ID, Type: c.message.Type, Err: c.err, Took: time.Since(c.started),
	})
}

// publishing091 makes the client library's form of a message.
func publishing091(m *Message) amqp.Publishing {
	p := amqp.Publishing{
		Headers:         m.Headers,
		ContentType:     m.ContentType,
		ContentEncoding: m.ContentEncoding,
		DeliveryMode:    amqp.Persistent,
		Priority:        m.Priority,
		CorrelationId:   m.CorrelationID,
		ReplyTo:         m.ReplyTo,
		MessageId:       m.ID,
		Timestamp:       m.Timestamp,
		Type:            m.Type,
		UserId:          m.UserID,
		AppId:           m.AppID,
		Body:            m.Body,
	}
	if m.Transient {
		p.DeliveryMode = amqp.Transient
	}
	if m.Expiration > 0 {
		// At least 1 ms: "0" would expire a message that no consumer is waiting for.
		p.Expiration = strconv.FormatInt(max(m.Expiration.Milliseconds(), 1), 10)
	}
	return p
}
