package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// subscription is one basic.consume on one channel of one epoch.
type subscription struct {
	*Consumer
	ep          *epoch
	ch          *amqp.Channel
	acks        *acks
	queueName   string
	concurrency int // of this subscription; 1 for a probe
	prefetch    int // of this subscription; small for a probe
	deliveries  <-chan amqp.Delivery
	cancel      func(noWait bool) error // sends basic.cancel
	workers     sync.WaitGroup
	until       time.Time // the end of the tenure; zero before the first message is settled
	held        held

	stopOnce sync.Once
	why      error         // of stop: nil when the consumer drains
	stop     chan struct{} // no worker takes another message
	ended    chan struct{} // closed when nothing may be settled any more

	mu        sync.Mutex
	returning []amqp.Delivery // to be given back, see drain
}

// subscribe runs one subscription on a channel of its own until it ends. It says whether the
// broker accepted the subscription, and why it ended.
func (c *Consumer) subscribe(ctx context.Context, ep *epoch) (bool, error) {
	ch, err := ep.channel()
	if err != nil {
		return false, err
	}
	defer ep.closeChannel(ch)
	s := c.subscription(ep)
	s.ch, s.acks = ch, newAcks(ch, s.prefetch)
	s.cancel = func(noWait bool) error { return ch.Cancel(s.config.tag, noWait) }
	defer s.acks.stop()
	lost := make(chan error, 1) // why the channel is gone
	go watchChannel(ch.NotifyClose(make(chan *amqp.Error, 1)), ch.NotifyCancel(make(chan string, 1)), lost)
	if err := ep.guardUntil(ctx, ep.callTimeout, s.prepare); err != nil {
		return false, err
	}
	if err := ep.guardUntil(ctx, max(leaderTimeout, ep.callTimeout), s.consume); err != nil {
		return false, err
	}
	if f := c.config.onSubscribe; f != nil {
		aside(c.log, "OnSubscribe", f)
	}
	to := c.conn.config.observers
	to.subscribed(SubscribeEvent{Queue: s.queueName, ConsumerTag: c.config.tag})
	c.setState(nil)
	c.trouble.over()
	err = s.work(lost)
	e := CancelEvent{Queue: s.queueName, ConsumerTag: c.config.tag, Err: err}
	if isOrderly(err) {
		e.Err = nil
	}
	to.cancelled(e)
	return true, err
}

// isOrderly says whether the consumer itself has ended its subscription.
func isOrderly(err error) bool {
	return errors.Is(err, errHandedOver) || errors.Is(err, errBack) || errors.Is(err, errAway)
}

// subscription makes a subscription that does not consume yet. While something is away it is a
// probe.
func (c *Consumer) subscription(ep *epoch) *subscription {
	s := &subscription{
		Consumer: c, ep: ep, queueName: c.queue.Name, concurrency: c.config.concurrency, prefetch: c.config.prefetch,
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	if n := c.away.size(); n > 0 && !c.keepsOrder {
		s.concurrency, s.prefetch, s.held.probe = 1, n, n
	}
	return s
}

// work handles deliveries until the subscription ends, and says why it ended.
func (s *subscription) work(lost <-chan error) error {
	handlers, cancel := context.WithCancelCause(s.handlers)
	defer cancel(nil)
	s.watch()
	watches := make([]*watch, s.concurrency)
	for i := range watches {
		watches[i] = &watch{tell: s.conn.config.observers.isOverdue}
	}
	s.setWatches(watches)
	defer stopWatches(watches)
	for _, w := range watches {
		s.startWorker(handlers, &hand{watch: w})
	}
	select {
	case <-s.draining:
		s.leave(nil)
	case <-s.stop:
	case reason := <-lost:
		return s.lose(reason, cancel)
	}
	s.away.tell()
	return s.drain(lost, cancel)
}

// watchChannel reports why a channel cannot be used any more: it was closed, or the broker has
// cancelled the consumer (the queue was deleted, its node is gone, or a consumer timeout),
// after which a channel is not safe to use.
func watchChannel(closed <-chan *amqp.Error, cancelled <-chan string, lost chan<- error) {
	for {
		select {
		case e := <-closed:
			reason := ErrConnectionLost
			if e != nil {
				reason = fmt.Errorf("%w: %w", ErrConnectionLost, e)
			}
			lost <- reason
			return
		case _, ok := <-cancelled:
			if !ok { // the channel is closed, which closed reports
				cancelled = nil
				continue
			}
			lost <- fmt.Errorf("%w: cancelled by the broker", ErrConnectionLost)
			return
		}
	}
}

// prepare declares an exclusive queue and sets the prefetch.
func (s *subscription) prepare() error {
	if s.queue.Exclusive {
		if err := s.declareOwn(); err != nil {
			return err
		}
	}
	if err := s.ch.Qos(s.prefetch, 0, false); err != nil {
		return fmt.Errorf("set the prefetch: %w", err)
	}
	return nil
}

func (s *subscription) consume() error {
	var arguments amqp.Table
	if s.config.priority != 0 {
		arguments = amqp.Table{"x-priority": s.config.priority}
	}
	deliveries, err := s.ch.Consume(s.queueName, s.config.tag, s.config.autoAck, s.config.exclusive, false, false, arguments)
	if err != nil {
		return fmt.Errorf("consume %q: %w", s.queueName, err)
	}
	s.deliveries = deliveries
	if s.config.size > 1 {
		s.deliveries = s.collect(deliveries)
	}
	return nil
}

// declareOwn declares an exclusive queue and binds it.
func (s *subscription) declareOwn() error {
	// An earlier subscription on this connection has left the queue. The queue of an earlier
	// connection is deleted with that; until the broker has noticed its loss it refuses this
	// declare (405).
	if s.ownEpoch == s.ep {
		if _, err := s.ch.QueueDelete(s.ownQueue, false, false, false); err != nil {
			return fmt.Errorf("delete the earlier exclusive queue: %w", err)
		}
	}
	q, err := s.ch.QueueDeclare(s.queue.Name, false, false, true, false, s.queue.arguments())
	if err != nil {
		return fmt.Errorf("declare an exclusive queue: %w", err)
	}
	s.queueName, s.ownQueue, s.ownEpoch = q.Name, q.Name, s.ep
	for _, b := range s.bindings {
		match, err := b.match()
		if err != nil {
			return err
		}
		if err := s.ch.QueueBind(q.Name, b.Key, b.Source, false, match); err != nil {
			return fmt.Errorf("bind %q to %q: %w", q.Name, b.Source, err)
		}
	}
	return nil
}

// leave stops the workers from taking messages. The first reason counts.
func (s *subscription) leave(why error) {
	s.stopOnce.Do(func() {
		s.why = why
		close(s.stop)
	})
}

// lose ends the subscription after its channel was closed: the broker delivers unsettled
// messages again, and the contexts of the handlers are cancelled with the reason.
func (s *subscription) lose(reason error, cancel context.CancelCauseFunc) error {
	s.setState(fmt.Errorf("queue %q: not subscribed: %w", s.queue.Name, reason))
	close(s.ended)
	s.leave(reason)
	cancel(reason)
	s.workers.Wait()
	for _, j := range s.release() {
		s.report(&j, Stale)
	}
	return reason
}

// drain ends the subscription so that messages that were not tried have no attempt more. To
// close the channel counts as an attempt for every unsettled message; only cancel, then nack,
// then close does not.
//
// A queue that keeps order is different: after a cancel the next consumer gets the messages
// after the unsettled ones. So the handler finishes first. If the prefetch is 1 its ack is
// sent directly after a cancel (see settle). Messages that are not acknowledged then go back
// when the channel is closed: that counts as an attempt, and is the only way to keep their
// place.
func (s *subscription) drain(lost <-chan error, cancel context.CancelCauseFunc) error {
	if !s.keepsOrder {
		if err := s.ep.guard(func() error { return s.cancel(false) }); err != nil {
			_ = s.ep.raw.Close() // so that the loss is noticed now
		}
		s.setState(fmt.Errorf("queue %q: draining", s.queueName))
	}
	finished := make(chan struct{})
	go func() { s.workers.Wait(); close(finished) }()
	select {
	case <-finished:
	case reason := <-lost:
		return s.lose(reason, cancel)
	}
	s.acks.flush()
	if s.keepsOrder || s.config.autoAck {
		return s.why
	}
	held := s.release()
	if err := s.giveAllBack(held); err != nil {
		for _, j := range held {
			s.report(&j, Stale)
		}
		return err
	}
	for _, j := range held {
		s.report(&j, Away)
	}
	return s.why
}

// giveAllBack gives back all unsettled messages, after the cancel.
func (s *subscription) giveAllBack(held []job) error {
	for _, j := range held {
		s.returning = append(s.returning, j.raw)
	}
	for d := range s.deliveries { // those that the library had buffered; the channel is closed after a cancel
		s.returning = append(s.returning, d)
	}
	for _, d := range s.returning {
		if err := d.Nack(false, true); err != nil {
			return fmt.Errorf("give a message back: %w", err)
		}
	}
	return nil
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
