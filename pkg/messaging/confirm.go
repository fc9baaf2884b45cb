package messaging

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// maxShortString is the length of AMQP's type shortstr, in bytes.
const maxShortString = 255

// Confirmation is the outcome, still to come, of a message that was published.
type Confirmation struct {
	ctx       context.Context
	route     Route
	message   Message
	mandatory bool
	started   time.Time
	hook      func(Route, string, error, time.Duration)

	done chan struct{}
	err  error
}

// validate refuses what AMQP cannot carry: some of it would cost the connection,
// and with it the outcome of every other message that is on its way.
func (c *Confirmation) validate() error {
	m := c.message
	if m.ID == "" {
		return errors.New("messaging: Message.ID: must not be empty")
	}
	for _, f := range []struct{ name, value string }{
		{"Route.Exchange", c.route.Exchange}, {"Route.Key", c.route.Key}, {"Message.ID", m.ID}, {"Message.Type", m.Type},
		{"Message.CorrelationID", m.CorrelationID}, {"Message.ReplyTo", m.ReplyTo}, {"Message.AppID", m.AppID},
		{"Message.UserID", m.UserID}, {"Message.ContentType", m.ContentType}, {"Message.ContentEncoding", m.ContentEncoding},
	} {
		if len(f.value) > maxShortString {
			return fmt.Errorf("messaging: %s: has %d bytes, AMQP allows %d", f.name, len(f.value), maxShortString)
		}
	}
	if err := amqp.Table(m.Headers).Validate(); err != nil {
		return fmt.Errorf("messaging: Message.Headers: %w", err)
	}
	return nil
}

func (c *Confirmation) resolve(err error) {
	c.err = err
	c.hook(c.route, c.message.Type, err, time.Since(c.started))
	close(c.done)
}

// Done is closed when the outcome is known.
func (c *Confirmation) Done() <-chan struct{} { return c.done }

// Err is the outcome, as [Publisher.Publish] would have returned it. Valid when Done is closed.
func (c *Confirmation) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Wait waits for the outcome until ctx is done, whose error leaves it unknown.
func (c *Confirmation) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	select {
	case <-c.done: // both at once: the outcome says more
		return c.err
	default:
		return fmt.Errorf("publish %s: outcome unknown: %w", c.message.ID, context.Cause(ctx))
	}
}

// publishing091 puts a message into the client library's form.
func publishing091(m Message) amqp.Publishing {
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
