package messaging

import (
	"context"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Confirmation is the outcome, still to come, of a message that was published.
type Confirmation struct {
	id        string
	kind      string
	route     Route
	mandatory bool
	received  bool // see limits
	started   time.Time
	hooks     *Hooks
	finish    func(error) // of Hooks.Publishing; may be nil

	// Set when the message was sent; without a session the outcome is known already.
	session *session
	wire    *amqp.DeferredConfirmation

	// Guarded by the session, where there is one.
	returned *ReturnedError
	settled  bool
	err      error
}

// settledAlready is the Done of what never was on its way.
var settledAlready = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is closed when the outcome is known.
func (c *Confirmation) Done() <-chan struct{} {
	if c.session == nil {
		return settledAlready
	}
	return c.wire.Done()
}

// Err is the outcome, as [Publisher.Publish] would have returned it. Valid when Done is closed.
func (c *Confirmation) Err() error {
	if !isDone(c.Done()) {
		return nil
	}
	return c.outcome()
}

// Wait waits for the outcome until ctx is done, whose error leaves it unknown.
func (c *Confirmation) Wait(ctx context.Context) error {
	select {
	case <-c.Done():
		return c.outcome()
	case <-ctx.Done():
	}
	if isDone(c.Done()) { // both at once: the outcome says more
		return c.outcome()
	}
	return fmt.Errorf("publish %s: outcome unknown: %w", c.id, context.Cause(ctx))
}

// outcome settles the confirmation if nobody has yet. Done is closed.
func (c *Confirmation) outcome() error {
	if c.session != nil {
		c.session.settle(c)
	}
	return c.err // never written again
}

// resolve sets the outcome of what is not on its way.
func (c *Confirmation) resolve(err error) {
	c.err = err
	c.tell()
}

// tell calls the hooks with the outcome.
func (c *Confirmation) tell() {
	c.hooks.Published(c.route, c.kind, c.err, time.Since(c.started))
	if c.finish != nil {
		c.finish(c.err)
	}
}

// publishing091 puts a message into the client library's form.
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
