package messaging

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Offset says where in a stream reading begins
// (https://www.rabbitmq.com/docs/streams#consuming). The zero value is [NextOffset],
// as it is for the broker.
type Offset struct{ spec any }

// FirstOffset is the oldest message that the stream still has.
func FirstOffset() Offset { return Offset{"first"} }

// LastOffset is the last chunk of messages that was written.
func LastOffset() Offset { return Offset{"last"} }

// NextOffset is the end of the stream: only messages that are written from now on are read.
func NextOffset() Offset { return Offset{"next"} }

// OffsetAt is the message with this offset, 0 or more. To resume use [Delivery.Offset] + 1.
func OffsetAt(n int64) Offset { return Offset{n} }

// OffsetSince is the first chunk that was written at or after t, in whole seconds. It may have
// some messages that are a little older.
func OffsetSince(t time.Time) Offset {
	if t.Unix() < 0 { // the broker reads a negative time as one in the far future
		return FirstOffset()
	}
	return Offset{t}
}

// streamConfig has the settings of a [Conn.Stream].
type streamConfig struct{ credit int }

// StreamOption is a setting of [Conn.Stream]. Nil is ignored.
type StreamOption interface{ applyStream(c *streamConfig) }

type streamOption func(c *streamConfig)

func (f streamOption) applyStream(c *streamConfig) { f(c) }

// Credit is how many messages the broker sends ahead: 1 to 65,535. Defaults to 100.
func Credit(n int) StreamOption {
	return streamOption(func(c *streamConfig) { c.credit = n })
}

func newStreamConfig(opts []StreamOption) (streamConfig, error) {
	c := streamConfig{credit: 100}
	for _, opt := range opts {
		if opt != nil {
			opt.applyStream(&c)
		}
	}
	if c.credit < 1 || c.credit > maxPrefetch {
		return c, fmt.Errorf("messaging: Credit: must be from 1 to %d", maxPrefetch)
	}
	return c, nil
}

// Stream reads a stream; at its end it waits for more messages. Reading removes nothing, and
// any number of readers read independently. The queue's type must be [Stream].
//
//	for d, err := range conn.Stream(ctx, audit, messaging.FirstOffset()) {
//
// After a lost connection it resumes after the last message that it gave. It ends when the
// caller stops ranging, or with an error as its last pair: that of ctx when ctx is done,
// [ErrClosed] when the Conn is closed, or the broker's when waiting cannot help (no right to
// read, or an argument that the queue does not accept). An invalid description, offset or
// option gives an error and no message; so does a queue that is not a stream, since reading
// would remove its messages.
//
// It waits for a stream that does not exist yet, until ctx is done. Meanwhile, and while the
// connection is lost, [Conn.Ready] says so.
//
// A stream may have the same message more than once, because its publisher has sent it again.
// A reader that must not handle it twice remembers each [Message.ID].
func (c *Conn) Stream(ctx context.Context, q Queue, from Offset, opts ...StreamOption) iter.Seq2[*Delivery, error] {
	if from.spec == nil {
		from = NextOffset()
	}
	config, err := newStreamConfig(opts)
	return func(yield func(*Delivery, error) bool) {
		if err := errors.Join(err, validateStream(q, from)); err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := c.untilClosed(ctx)
		defer cancel()
		r := &reading{conn: c, queue: q, config: config, from: from, yield: yield, link: startLink(c.config, "read "+q.Name)}
		r.trouble = trouble{
			log:   c.config.Logger.With(zap.String("queue", q.Name)),
			fails: "stream reader lost its channel, resuming", works: "stream reader reads again",
		}
		r.setState(errors.New("not begun"))
		defer r.link.close(ctx)
		c.watchReading(r)
		defer c.unwatchReading(r)
		if err := r.run(ctx); !errors.Is(err, errStopRanging) {
			yield(nil, err)
		}
	}
}

// reading is one range over a stream.
type reading struct {
	conn    *Conn
	queue   Queue
	config  streamConfig
	link    *link
	from    Offset // behind the last message that was given
	yield   func(*Delivery, error) bool
	trouble trouble

	mu    sync.Mutex
	state error // nil while the stream delivers
}

func (r *reading) setState(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = err
}

func (r *reading) ready() error {
	r.mu.Lock()
	state := r.state
	r.mu.Unlock()
	if state == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("stream %q: not reading: %w", r.queue.Name, state), r.link.ready())
}

var errStopRanging = errors.New("the caller stopped ranging")

// run reads on one channel after another.
func (r *reading) run(ctx context.Context) error {
	for wait := newBackoff(r.conn.config.MaxBackoff); ; {
		ep, err := r.link.await(ctx)
		if err != nil {
			return err
		}
		before := r.from
		begun, err := r.read(ctx, ep)
		if ctx.Err() != nil && !errors.Is(err, errStopRanging) {
			return r.ended(ctx)
		}
		if errors.Is(err, errStopRanging) || !begun && isHopeless(err) {
			return err
		}
		if r.from != before { // it has given something
			wait.reset()
		}
		r.setState(err)
		r.trouble.note(err)
		if !wait.sleep(ctx) {
			return r.ended(ctx)
		}
	}
}

// ended is ctx's error, with the reason why nothing was read, if there is one.
func (r *reading) ended(ctx context.Context) error {
	r.mu.Lock()
	state := r.state
	r.mu.Unlock()
	if state == nil {
		return context.Cause(ctx)
	}
	return ended(ctx, fmt.Sprintf("stream %q: not reading: %v", r.queue.Name, state))
}

// isHopeless says whether the broker refuses for a reason that will not go away by waiting.
// 404 is not one of them: the stream may be declared later.
func isHopeless(err error) bool {
	var refused *amqp.Error
	if !errors.As(err, &refused) || !refused.Server {
		return false
	}
	switch refused.Code {
	case amqp.AccessRefused, amqp.PreconditionFailed, amqp.NotAllowed, amqp.NotImplemented:
		return true
	default:
		return false
	}
}

// read reads on one channel, and says whether the broker let it.
func (r *reading) read(ctx context.Context, ep *epoch) (begun bool, err error) {
	ch, err := ep.channel()
	if err != nil {
		return false, err
	}
	defer ep.closeChannel(ch)
	if err := ep.guardUntil(ctx, ep.callTimeout, func() error { return ch.Qos(r.config.credit, 0, false) }); err != nil {
		return false, fmt.Errorf("set the credit: %w", err)
	}
	var deliveries <-chan amqp.Delivery
	err = ep.guardUntil(ctx, max(leaderTimeout, ep.callTimeout), func() (err error) {
		deliveries, err = ch.Consume(r.queue.Name, "", false, false, false, false, amqp.Table{"x-stream-offset": r.from.spec})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("consume %q: %w", r.queue.Name, err)
	}
	to := r.conn.config.observers
	to.subscribed(SubscribeEvent{Queue: r.queue.Name})
	r.setState(nil)
	r.trouble.over()
	err = r.give(ctx, deliveries)
	e := CancelEvent{Queue: r.queue.Name, Err: err}
	if ctx.Err() != nil || errors.Is(err, errStopRanging) {
		e.Err = nil
	}
	to.cancelled(e)
	return true, err
}

// give passes deliveries to the caller, until the channel or the reading ends.
func (r *reading) give(ctx context.Context, deliveries <-chan amqp.Delivery) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case d, ok := <-deliveries:
			if !ok {
				return ErrConnectionLost
			}
			delivery := newDelivery(d, r.queue.Name)
			delivery.Offset, _ = integer(d.Headers["x-stream-offset"])
			if !r.yield(delivery, nil) {
				return errStopRanging
			}
			r.from = OffsetAt(delivery.Offset + 1)
			if err := d.Ack(false); err != nil { // gives the broker credit, removes nothing
				return fmt.Errorf("give credit: %w", err)
			}
		}
	}
}
