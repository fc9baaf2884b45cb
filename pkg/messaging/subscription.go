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
	concurrency int // of this subscription: a probe has 1
	prefetch    int // and a few
	deliveries  <-chan amqp.Delivery
	cancel      func(noWait bool) error // sends basic.cancel
	workers     sync.WaitGroup
	until       time.Time // the end of the tenure; zero before the first message is settled
	held        held

	stopOnce sync.Once
	why      error         // of stop: nil when the consumer drains
	stop     chan struct{} // no worker takes another message
	ended    chan struct{} // from now on nothing may be settled

	mu        sync.Mutex
	returning []amqp.Delivery // after the cancel, or with the closing channel: see drain
}

// subscribe runs one subscription on a channel of its own until it ends. It says
// whether there was one, and why it ended.
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

// isOrderly says whether a subscription was ended by its own consumer.
func isOrderly(err error) bool {
	return errors.Is(err, errHandedOver) || errors.Is(err, errBack) || errors.Is(err, errAway)
}

// subscription makes one that does not consume yet: a probe, while something is away.
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

// work handles deliveries until the subscription ends, and says why it did.
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

// watchChannel says why a channel is gone. After a cancel by the broker (the queue was
// deleted, its node is gone, or a consumer timeout) the channel is not safe to use.
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
			if !ok { // the channel is closed, as the other one says
				cancelled = nil
				continue
			}
			lost <- fmt.Errorf("%w: cancelled by the broker", ErrConnectionLost)
			return
		}
	}
}

// prepare declares what is ours alone and sets the prefetch.
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
	// A subscription before this one has left it on the same connection. Another
	// connection's goes with it; until the broker has noticed, it refuses (405).
	if s.ownEpoch == s.ep {
		if _, err := s.ch.QueueDelete(s.ownQueue, false, false, false); err != nil {
			return fmt.Errorf("delete the exclusive queue of before: %w", err)
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

// leave lets no worker take another message. The first reason counts.
func (s *subscription) leave(why error) {
	s.stopOnce.Do(func() {
		s.why = why
		close(s.stop)
	})
}

// lose ends the subscription with its channel: the broker delivers again what was in
// hand, and handlers hear why.
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

// drain ends the subscription without counting an attempt for anything that was
// not tried. A dropped channel counts one for every unsettled message; only
// cancel, then nack, then close does not.
//
// A queue that keeps order is different: from a cancel on the next consumer gets the
// messages behind those that are in hand. So the handler finishes. Where the prefetch is 1
// its ack is sent right behind a cancel (see settle). Whatever is not acknowledged then
// goes back with the closing channel: that counts an attempt, and is the one way that
// keeps it in its place.
func (s *subscription) drain(lost <-chan error, cancel context.CancelCauseFunc) error {
	if !s.keepsOrder {
		if err := s.ep.guard(func() error { return s.cancel(false) }); err != nil {
			_ = s.ep.raw.Close() // it is lost, and says so now
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

// giveAllBack returns what is left in hand, behind the cancel.
func (s *subscription) giveAllBack(held []job) error {
	for _, j := range held {
		s.returning = append(s.returning, j.raw)
	}
	for d := range s.deliveries { // what the library had buffered; it closes after a cancel
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
