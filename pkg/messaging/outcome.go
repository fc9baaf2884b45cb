package messaging

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// endError is the error of a message that was on its way when the channel ended. known says
// that this message was the reason.
func endError(reason *amqp.Error, known bool) error {
	switch {
	case reason == nil:
		return fmt.Errorf("%w: %w", ErrConnectionLost, ErrClosed)
	case known:
		return fmt.Errorf("%w: %w", ErrRefused, reason)
	case closesChannel(reason), closesConnection(reason):
		return fmt.Errorf("%w: %w: %w", ErrConnectionLost, ErrRefused, reason)
	default:
		return fmt.Errorf("%w: %w", ErrConnectionLost, reason)
	}
}

// A rejection is why the broker has closed a channel because of one message, and the route
// of that message.
type rejection struct {
	reason *amqp.Error
	route  Route
}

// next is the error of a message that waited while the session ended. It is errSessionOver
// when the next session is to send it, and a refusal when the broker would refuse it for the
// same reason.
func (s *session) next(route Route) error {
	r := s.refused
	switch {
	case r == nil:
	case r.reason.Code == amqp.NotFound, r.reason.Code == amqp.AccessRefused && r.route == route:
		return endError(r.reason, true)
	}
	return errSessionOver
}

// settle sets the outcome of a message whose wait for the confirm is over. It returns false
// when the wait is over because the channel was closed: then end sets the outcome.
func (s *session) settle(c *Confirmation) bool {
	s.mu.Lock()
	settled := c.settled
	if !settled {
		if !c.wire.Acked() && s.ch.IsClosed() {
			s.mu.Unlock()
			return false
		}
		s.collect() // the broker sends a return before the confirm, so it has arrived
		s.setOutcome(c, ErrNacked)
		if !isDone(s.proven) {
			close(s.proven)
		}
	}
	s.mu.Unlock()
	if !settled {
		c.report()
	}
	return true
}

// setOutcome sets the outcome. unconfirmed is the error if the message was not confirmed.
func (s *session) setOutcome(c *Confirmation, unconfirmed error) {
	if s.ids[c.message.ID] == c {
		delete(s.ids, c.message.ID)
	}
	switch {
	case c.returned != nil:
		c.err = c.returned
	case !c.wire.Acked():
		c.err = fmt.Errorf("publish %s: %w", c.message.ID, unconfirmed)
	}
	c.settled = true
	if c.done != nil {
		close(c.done)
	}
}

// collect takes the returns that have arrived and notes them at their messages.
func (s *session) collect() {
	for {
		select {
		case r, ok := <-s.returns:
			if !ok {
				s.returns = nil
			} else if c := s.ids[r.MessageId]; c != nil {
				c.returned = returned(r)
			}
		default:
			return
		}
	}
}

// done gives a channel that is closed when the message has its outcome.
func (s *session) done(c *Confirmation) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.settled {
		return settledAlready
	}
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

// answered notes that a request that was sent here is answered or was given up.
func (s *session) answered() {
	s.mu.Lock()
	s.calls--
	s.mu.Unlock()
	s.lookAgain()
}

func returned(r amqp.Return) *ReturnedError {
	return &ReturnedError{
		MessageID: r.MessageId,
		Route:     Route{Exchange: r.Exchange, Key: r.RoutingKey},
		Code:      r.ReplyCode,
		Text:      r.ReplyText,
	}
}
