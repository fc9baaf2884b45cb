package messaging

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// An epoch is one connection, from its handshake to its end.
type epoch struct {
	link        *link
	conn        *amqp.Connection
	raw         *socket
	callTimeout time.Duration
	born        time.Time

	done chan struct{} // closed when the connection has ended
	err  error         // why; read after done is closed

	mu      sync.Mutex
	blocked bool
	reason  string        // the broker's text, while it is blocked
	flipped chan struct{} // closed and replaced when blocked changes
}

// writable waits until the broker takes messages and the socket has room for one.
func (ep *epoch) writable(ctx context.Context, closing <-chan struct{}) error {
	for {
		wait, why := ep.raw.full(), "the write buffer of the connection is full"
		if blocked, flipped := ep.isBlocked(); blocked {
			wait, why = flipped, ep.missing()
		}
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ep.done: // the write that follows fails with the reason
			return nil
		case <-closing:
			return ErrClosed
		case <-ctx.Done():
			return ended(ctx, why)
		}
	}
}

func newEpoch(l *link, conn *amqp.Connection, raw *socket) *epoch {
	ep := &epoch{
		link:        l,
		conn:        conn,
		raw:         raw,
		callTimeout: l.config.CallTimeout,
		born:        time.Now(),
		done:        make(chan struct{}),
		flipped:     make(chan struct{}),
	}
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 8))
	go ep.watch(closed, blocked)
	return ep
}

// watch handles the notifications of the connection until it ends.
func (ep *epoch) watch(closed <-chan *amqp.Error, blocked <-chan amqp.Blocking) {
	for {
		select {
		case b, ok := <-blocked:
			if !ok {
				blocked = nil
				continue
			}
			ep.setBlocked(b)
		case reason := <-closed:
			if blocked, _ := ep.isBlocked(); blocked {
				ep.tellBlock(amqp.Blocking{})
			}
			ep.err = ErrClosed
			if reason != nil {
				ep.err = reason
			}
			close(ep.done)
			// Only this ends a write to this socket that blocks.
			_ = ep.raw.Close()
			return
		}
	}
}

func (ep *epoch) setBlocked(b amqp.Blocking) {
	ep.mu.Lock()
	ep.blocked, ep.reason = b.Active, b.Reason
	close(ep.flipped)
	ep.flipped = make(chan struct{})
	ep.mu.Unlock()
	ep.tellBlock(b)
}

func (ep *epoch) tellBlock(b amqp.Blocking) {
	ep.link.config.observers.blocked(BlockEvent{Connection: ep.link.role, Blocked: b.Active, Reason: b.Reason})
}

// missing says that the broker blocks the connection; empty when it does not.
func (ep *epoch) missing() string {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if !ep.blocked {
		return ""
	}
	return fmt.Sprintf("connection %q is blocked by the broker: %s", ep.link.role, ep.reason)
}

// isBlocked says whether the broker blocks the connection, and gives a channel that is closed
// when that changes.
func (ep *epoch) isBlocked() (bool, <-chan struct{}) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.blocked, ep.flipped
}

// guard runs a synchronous AMQP method, for which the library has no timeout. It closes the
// connection when the method takes longer than the call timeout. Time in which the broker
// blocks the connection does not count, since it reads nothing then.
func (ep *epoch) guard(call func() error) error {
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if blocked, _ := ep.isBlocked(); blocked {
			timer.Reset(ep.callTimeout)
		} else {
			_ = ep.raw.Close()
		}
	})
	timer.Reset(ep.callTimeout)
	defer timer.Stop()
	return call()
}

// halfway is how long guardUntil lets a call go on after its context has ended: when the call
// ends normally the connection need not be closed.
const halfway = time.Second

// leaderTimeout bounds basic.consume. The broker waits up to 65 s for the leader of a quorum
// queue. If we close the connection before, the broker still adds the consumer when the
// leader is back; then that consumer is gone, and each message that it gets has one attempt
// more. A dead connection is noticed earlier, by its heartbeats.
const leaderTimeout = 75 * time.Second

// guardUntil is guard with another timeout. It also ends the call soon after ctx is done.
func (ep *epoch) guardUntil(ctx context.Context, limit time.Duration, call func() error) error {
	var over atomic.Bool
	cut := func() {
		if over.CompareAndSwap(false, true) {
			_ = ep.raw.Close()
		}
	}
	timer := time.AfterFunc(limit, cut)
	defer timer.Stop()
	release := context.AfterFunc(ctx, func() { timer.Reset(min(halfway, limit)) })
	defer release()
	err := call()
	over.Store(true)
	return err
}

// channel opens a fresh channel.
func (ep *epoch) channel() (*amqp.Channel, error) {
	var ch *amqp.Channel
	err := ep.guard(func() (err error) {
		ch, err = ep.conn.Channel()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	return ch, nil
}

// closeChannel closes a channel in bounded time. Its unsettled messages go back to their queue,
// which counts as an attempt.
func (ep *epoch) closeChannel(ch *amqp.Channel) {
	_ = ep.guard(ch.Close)
}

// release closes a channel without waiting. A channel that the broker has halted does not
// answer and stays until the connection ends, which other channels may still need.
func (ep *epoch) release(ch *amqp.Channel) {
	go func() { _ = ch.Close() }() // ends with the connection at the latest
}

// close closes the connection in bounded time, even if a write blocks.
func (ep *epoch) close() {
	_ = ep.guard(ep.conn.Close)
	_ = ep.raw.Close()
	<-ep.done
}
