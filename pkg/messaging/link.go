package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// MinBrokerVersion is the oldest RabbitMQ that Connect accepts. Dead-lettering
// and direct reply-to have faults below it.
const MinBrokerVersion = "4.3.1"

// maxRefusals is how many refusals in a row Connect believes: a virtual host or a user
// may be about to be made.
const maxRefusals = 3

// A link keeps one connection to the broker alive. Each connection, from dial to
// loss, is an epoch. Nothing of an epoch is used in the next one: not the
// connection, not a channel, not a delivery tag. That is why the client
// library's own recovery is not used, which reuses channels and restarts their
// numbering; see DESIGN.md.
type link struct {
	config Config
	role   string
	log    *zap.Logger

	dialling trouble // of whoever dials: newLink, and then supervise

	epochs current[epoch]

	mu      sync.Mutex
	lastErr error

	stop context.CancelFunc
	done chan struct{}
}

// An epoch is one connection, from its handshake to its end.
type epoch struct {
	link        *link
	conn        *amqp.Connection
	raw         *socket
	callTimeout time.Duration
	born        time.Time

	done chan struct{} // closed at the end
	err  error         // why; read after done

	mu      sync.Mutex
	blocked bool
	flipped chan struct{} // closed and replaced when blocked changes
}

// writable waits until the broker takes messages and the socket has room for one.
func (ep *epoch) writable(ctx context.Context, closing <-chan struct{}) error {
	for {
		wait := ep.raw.full()
		if blocked, flipped := ep.isBlocked(); blocked {
			wait = flipped
		}
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ep.done: // whoever writes now gets the reason
			return nil
		case <-closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func makeLink(config Config, role string) *link {
	log := config.Logger.With(zap.String("connection", role))
	return &link{
		config:   config,
		role:     role,
		log:      log,
		dialling: trouble{log: log, fails: "broker not reachable, trying again", works: "broker reached again"},
		done:     make(chan struct{}),
	}
}

// startLink dials in the background, for as long as it takes.
func startLink(config Config, role string) *link {
	l := makeLink(config, role)
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go l.supervise(ctx, nil)
	return l
}

// newLink dials until the broker answers, ctx is done, or the answer is one that
// waiting will not change.
func newLink(ctx context.Context, config Config, role string) (*link, error) {
	l := makeLink(config, role)
	refusals := 0
	var last error
	for wait := newBackoff(config.MaxBackoff); ; {
		first, refused, err := l.dial(ctx)
		if err == nil {
			l.dialling.over()
			supervised, cancel := context.WithCancel(context.WithoutCancel(ctx))
			l.stop = cancel
			l.set(first, nil) // ready when Connect returns
			go l.supervise(supervised, first)
			return l, nil
		}
		if refused {
			if refusals++; refusals == maxRefusals || errors.Is(err, ErrBrokerTooOld) {
				return nil, err
			}
		} else {
			refusals = 0
		}
		// An attempt that ctx has cut short says nothing but that.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if ctx.Err() == nil {
			l.dialling.note(err)
		}
		if !wait.sleep(ctx) {
			return nil, fmt.Errorf("connect to the broker: %w (last attempt: %w)", context.Cause(ctx), last)
		}
	}
}

// supervise dials whenever there is no epoch, until ctx is done.
func (l *link) supervise(ctx context.Context, ep *epoch) {
	defer close(l.done)
	defer l.set(nil, ErrClosed)
	for wait := newBackoff(l.config.MaxBackoff); ; {
		if ep == nil {
			var err error
			ep, _, err = l.dial(ctx)
			l.set(ep, err) // no epoch with an error
			if err != nil {
				if ctx.Err() == nil {
					l.dialling.note(err)
				}
				if !wait.sleep(ctx) {
					return
				}
				continue
			}
			l.dialling.over()
		}
		select {
		case <-ep.done:
			l.set(nil, ep.err)
			l.tellEnd(ep, ep.err)
		case <-ctx.Done():
			l.set(nil, ErrClosed)
			ep.close()
			l.tellEnd(ep, ErrClosed)
			return
		}
		if time.Since(ep.born) > l.config.MaxBackoff {
			wait.reset()
		}
		ep = nil
		if !wait.sleep(ctx) {
			return
		}
	}
}

// set publishes the epoch, or why there is none, to all who await one.
func (l *link) set(ep *epoch, err error) {
	l.mu.Lock()
	l.lastErr = err
	l.mu.Unlock()
	l.epochs.set(ep)
}

// await gives the current epoch, and waits for one while the broker is away.
func (l *link) await(ctx context.Context) (*epoch, error) { return l.epochs.await(ctx, l.done) }

// failure is why the link is not connected; nil while it is, or nothing is known yet.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastErr
}

// ready is nil while the link is connected and not blocked.
func (l *link) ready() error {
	ep, _ := l.epochs.get()
	if ep == nil {
		return fmt.Errorf("%s connection is down: %w", l.role, errors.Join(l.failure(), ErrConnectionLost))
	}
	if blocked, _ := ep.isBlocked(); blocked {
		return fmt.Errorf("%s connection is blocked by the broker (resource alarm)", l.role)
	}
	return nil
}

// close ends the link and waits for its goroutine; from the end of ctx on without
// the courtesy of a closing handshake.
func (l *link) close(ctx context.Context) {
	if ep, _ := l.epochs.get(); ep != nil {
		release := context.AfterFunc(ctx, func() { _ = ep.raw.Close() })
		defer release()
	}
	l.stop()
	<-l.done
}

// tellAttempt tells observers of an attempt to connect, unless nobody wants it any more.
func (l *link) tellAttempt(ctx context.Context, url string, ep *epoch, err error, started time.Time) {
	if ep == nil && ctx.Err() != nil {
		return
	}
	uri, _ := parseURL(url) // it was checked
	e := ConnectEvent{Connection: l.role, Node: fmt.Sprintf("%s:%d", uri.Host, uri.Port), Err: err, Took: time.Since(started)}
	if ep != nil {
		e.BrokerVersion, _ = ep.conn.Properties["version"].(string)
	}
	l.config.observers.connected(e)
}

// tellEnd tells observers of the end of a connection.
func (l *link) tellEnd(ep *epoch, err error) {
	l.config.observers.disconnected(DisconnectEvent{Connection: l.role, Err: err, Lasted: time.Since(ep.born)})
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

// watch owns the epoch's notifications until the connection ends.
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
			// A publisher that is stuck in a write to this socket is freed by this only.
			_ = ep.raw.Close()
			return
		}
	}
}

func (ep *epoch) setBlocked(b amqp.Blocking) {
	ep.mu.Lock()
	ep.blocked = b.Active
	close(ep.flipped)
	ep.flipped = make(chan struct{})
	ep.mu.Unlock()
	ep.tellBlock(b)
}

func (ep *epoch) tellBlock(b amqp.Blocking) {
	ep.link.config.observers.blocked(BlockEvent{Connection: ep.link.role, Blocked: b.Active, Reason: b.Reason})
}

// isBlocked says whether the broker has asked for silence, and gives a channel
// that is closed when that changes.
func (ep *epoch) isBlocked() (bool, <-chan struct{}) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.blocked, ep.flipped
}

// guard runs a synchronous AMQP method, which the library lets wait for ever, and
// gives the connection up when it takes too long. The time that the broker blocks the
// connection does not count: it reads nothing then.
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

// halfway is how long guardUntil lets a call go on when nobody waits for it any more:
// what it began is undone in better order when it ends.
const halfway = time.Second

// leaderTimeout bounds basic.consume. The broker waits up to 65 s for a quorum queue whose
// leader does not answer, and each request that is given up before then is carried out
// when the leader is back: for a consumer that is gone, which counts an attempt for what
// it gets. A connection that is dead is noticed by its heartbeats.
const leaderTimeout = 75 * time.Second

// guardUntil is guard with a bound of its own, for a call that ends soon when ctx does.
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

// closeChannel closes a channel in bounded time. What it held goes back to its
// queue, counted as an attempt.
func (ep *epoch) closeChannel(ch *amqp.Channel) {
	_ = ep.guard(ch.Close)
}

// release closes a channel and waits for nothing: one that the broker has halted does
// not answer, and stays until the connection ends, which others may still need.
func (ep *epoch) release(ch *amqp.Channel) {
	go func() { _ = ch.Close() }() // ends with the connection at the latest
}

// close ends the connection in bounded time, even where a write is stuck.
func (ep *epoch) close() {
	_ = ep.guard(ep.conn.Close)
	_ = ep.raw.Close()
	<-ep.done
}
