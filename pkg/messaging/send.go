package messaging

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// send writes a message when there is a place in the window and no other message with the
// same id is on its way: a return can be matched only by the id.
func (s *session) send(ctx context.Context, c *Confirmation, m *Message) error {
	if err := s.place(ctx, c.route); err != nil {
		return err
	}
	for {
		same, err := s.write(ctx, c, m)
		if same == nil && err == nil {
			return nil
		}
		if same != nil {
			err = s.await(ctx, same)
		}
		if err == nil {
			continue
		}
		<-s.places
		if !isDone(s.proven) {
			<-s.first // this message has taken it
		}
		if errors.Is(err, amqp.ErrClosed) { // nothing was sent
			return s.over(ctx, c.route)
		}
		return err
	}
}

// over waits for the end of the session, whose channel is closed already.
func (s *session) over(ctx context.Context, route Route) error {
	select {
	case <-s.ended:
		return s.next(route)
	case <-ctx.Done():
		return ended(ctx, "the publishing channel has ended")
	}
}

// place waits for a place in the window, and for the outcome of the first message.
func (s *session) place(ctx context.Context, route Route) error {
	select {
	case s.places <- struct{}{}:
	default:
		s.askForOwn()
		select {
		case s.places <- struct{}{}:
		case <-s.ended:
			return s.next(route)
		case <-ctx.Done():
			return ended(ctx, s.full())
		}
	}
	if len(s.places) > sharedWindow {
		s.askForOwn()
	}
	if isDone(s.proven) {
		return nil
	}
	select {
	case s.first <- struct{}{}:
		return nil
	case <-s.proven:
		return nil
	case <-s.ended:
		<-s.places
		return s.next(route)
	case <-ctx.Done():
		<-s.places
		return ended(ctx, "the first message on the channel is not confirmed")
	}
}

// full says why there is no place in the window.
func (s *session) full() string {
	if missing := s.ep.missing(); missing != "" {
		return missing
	}
	return fmt.Sprintf("the window is full: %d messages are not confirmed", cap(s.places))
}

// askForOwn notes that the lane has more to send than may be on its way on the shared
// connection.
func (s *session) askForOwn() {
	if s.config.window > sharedWindow && s.lane.needsOwn.CompareAndSwap(false, true) {
		s.lookAgain()
	}
}

func (s *session) lookAgain() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// write passes a message to the library. When another message with the same id is on its
// way, write returns that one and sends nothing. ErrClosed of the library means that nothing
// was sent; after its other errors this is unknown.
func (s *session) write(ctx context.Context, c *Confirmation, m *Message) (same *Confirmation, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isDone(s.ended) {
		return nil, amqp.ErrClosed
	}
	if same := s.ids[c.message.ID]; c.mandatory && same != nil {
		return same, nil
	}
	if c.call {
		if m.Expiration, err = remaining(ctx); err != nil { // as late as possible: the message may have waited for long
			return nil, err
		}
	}
	wire, err := s.ch.PublishWithDeferredConfirm(c.route.Exchange, c.route.Key, c.mandatory, false, publishing091(m))
	if err != nil && !errors.Is(err, amqp.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	if err != nil {
		return nil, err
	}
	c.session, c.wire = s, wire
	if c.mandatory {
		s.ids[c.message.ID] = c
	}
	if c.call {
		s.calls++
	}
	s.inflight <- c // there is room: it is as large as the window
	return nil, nil
}

// await waits until the message is not on its way any more.
func (s *session) await(ctx context.Context, c *Confirmation) error {
	select {
	case <-c.wire.Done():
		if s.settle(c) {
			return nil
		}
		return amqp.ErrClosed
	case <-s.ended:
		return amqp.ErrClosed
	case <-ctx.Done():
		return ended(ctx, "a message with the same id is on its way")
	}
}
