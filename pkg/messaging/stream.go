package messaging

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Offset is where in a stream reading begins
// (https://www.rabbitmq.com/docs/streams#consuming). The zero value is [NextOffset],
// as it is for the broker.
type Offset struct{ spec any }

// FirstOffset is the oldest message that the stream still has.
func FirstOffset() Offset { return Offset{"first"} }

// LastOffset is the last chunk of messages that was written.
func LastOffset() Offset { return Offset{"last"} }

// NextOffset is what will be written from now on.
func NextOffset() Offset { return Offset{"next"} }

// OffsetAt is the message with this offset, 0 or more; one past [Delivery.Offset] resumes.
func OffsetAt(n int64) Offset { return Offset{n} }

// OffsetSince is the first chunk written at or after t, to the second. Messages a
// little older may come with it.
func OffsetSince(t time.Time) Offset {
	if t.Unix() < 0 { // the broker takes a negative one for the far future
		return FirstOffset()
	}
	return Offset{t}
}

// StreamReader reads a stream. Reading takes nothing out, and any number of
// readers read independently.
type StreamReader struct {
	conn   *Conn
	queue  Queue
	from   Offset
	credit int
}

// StreamOption changes how a [StreamReader] reads.
type StreamOption func(*StreamReader)

// Credit is how many messages the broker sends ahead. Defaults to 100, at most 65,535.
func Credit(n int) StreamOption { return func(s *StreamReader) { s.credit = max(n, 1) } }

// Stream describes reading a stream from an offset; nothing happens until
// [StreamReader.All], which also refuses what cannot be read. The queue's type must be
// [Stream].
func (c *Conn) Stream(q Queue, from Offset, opts ...StreamOption) *StreamReader {
	if from.spec == nil {
		from = NextOffset()
	}
	s := &StreamReader{conn: c, queue: q, from: from, credit: 100}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// All reads on and on: at the end of the stream it waits for more. After a lost
// connection it resumes behind the last message that it gave. It ends when the
// caller stops ranging, or with an error as its last pair: ctx's when ctx is done,
// [ErrClosed] when the Conn is closed. Of a queue that is no stream, or for an offset, a
// credit or a description that cannot be, it gives an error and nothing else.
//
// The same message may stand in a stream more than once, because its publisher
// sent it again: a reader that must not see it twice skips a [Message.ID] that it
// has seen.
func (s *StreamReader) All(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		if err := s.validate(); err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := s.conn.untilClosed(ctx)
		defer cancel()
		l := startLink(s.conn.config, "read "+s.queue.Name)
		defer l.close(ctx)
		from := s.from
		for wait := newBackoff(s.conn.config.MaxBackoff); ; {
			ep, err := l.await(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			err = s.read(ctx, ep, &from, yield)
			if errors.Is(err, errStopRanging) {
				return
			}
			if ctx.Err() == nil {
				s.conn.config.Logger.Warn("stream reader lost its channel, resuming", zap.String("queue", s.queue.Name), zap.Error(err))
				wait.sleep(ctx)
			}
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
		}
	}
}

var errStopRanging = errors.New("the caller stopped ranging")

// read reads on one channel and keeps from behind the last message it gave.
func (s *StreamReader) read(ctx context.Context, ep *epoch, from *Offset, yield func(*Delivery, error) bool) error {
	ch, err := ep.channel()
	if err != nil {
		return err
	}
	defer ep.closeChannel(ch)
	var deliveries <-chan amqp.Delivery
	err = ep.guard(func() (err error) {
		if err := ch.Qos(s.credit, 0, false); err != nil {
			return fmt.Errorf("set the credit: %w", err)
		}
		deliveries, err = ch.Consume(s.queue.Name, "", false, false, false, false, amqp.Table{"x-stream-offset": from.spec})
		return err
	})
	if err != nil {
		return fmt.Errorf("consume %q: %w", s.queue.Name, err)
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case d, ok := <-deliveries:
			if !ok {
				return ErrConnectionLost
			}
			delivery := newDelivery(d, s.queue.Name)
			delivery.Offset, _ = integer(d.Headers["x-stream-offset"])
			if !yield(delivery, nil) {
				return errStopRanging
			}
			*from = OffsetAt(delivery.Offset + 1)
			if err := d.Ack(false); err != nil { // gives the broker credit; takes nothing out
				return fmt.Errorf("give credit: %w", err)
			}
		}
	}
}
