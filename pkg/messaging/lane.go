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

// A lane is a supervised channel for the messages to one exchange, or to one queue on
// the default exchange. When the broker closes or halts the channel because of one of these
// messages, the other lanes go on.
//
// Lanes share one connection as long as they cannot harm each other there:
//
//	new, for an exchange      a connection of its own until the broker has confirmed a
//	                          message: a wrong exchange name may cost the connection
//	few messages on their     the shared connection, with a window of sharedWindow
//	way
//	many messages on their    a connection of its own, with the publisher's window:
//	way                       see sharedWindow
//	its connection was        a connection of its own until the broker has confirmed a
//	closed because of a       message there; if that is closed too, it never shares one
//	message                   again
type lane struct {
	key     Route // see laneOf
	session current[session]
	users   atomic.Int64 // messages that wait or are on their way
	used    atomic.Int64 // when a message took it last, in Unix nanoseconds

	once   sync.Once
	over   chan struct{} // closed when it takes no more messages
	reason error         // why; read after over is closed

	needsOwn atomic.Bool // more messages than sharedWindow are to be sent at the same time

	waits  atomic.Pointer[link]  // the connection that it has or waits for
	failed atomic.Pointer[error] // why it has no channel, if that is known

	// Only the goroutine of run uses these.
	alone      bool  // must not share a connection
	staysAlone bool  // must never share one again: its own was closed because of its messages
	own        *link // its own connection; nil while it has none
}

func newLane(key Route) *lane {
	return &lane{key: key, over: make(chan struct{}), alone: key.Exchange != ""}
}

func (l *lane) hold(now time.Time) {
	l.users.Add(1)
	l.used.Store(now.UnixNano())
}

// end makes the lane refuse new messages. It ends when none of its messages is on its way.
func (l *lane) end(reason error) {
	l.once.Do(func() { l.reason = reason; close(l.over) })
}

// name is the lane's name in connections and logs.
func (l *lane) name() string {
	if l.key.Exchange != "" {
		return "publish to exchange " + l.key.Exchange
	}
	return "publish to queue " + l.key.Key
}

// run keeps the lane's channel open, one session after another.
func (p *Publisher) run(l *lane) {
	defer p.closeOwn(l)
	for wait := newBackoff(p.conn.config.MaxBackoff); ; {
		s, err := p.open(l)
		if err == nil {
			l.failed.Store(nil)
			l.session.set(s)
			err = s.run()
			if isDone(s.proven) || s.refused != nil && closesChannel(s.refused.reason) {
				wait.reset() // the lane works: a refused message is no reason to wait longer each time
			}
		}
		switch {
		case isDone(l.over):
			return
		case err == nil:
			continue // it changes its connection
		}
		l.failed.Store(&err)
		if errors.Is(err, ErrTooManyChannels) {
			l.end(err)
			p.lanes.remove(l)
			return
		}
		p.conn.config.Logger.Debug("publishing channel ended", zap.String("lane", l.name()), zap.Error(err))
		if !wait.sleepUnless(p.life, l.over) {
			return
		}
	}
}

// open opens the lane's next session, on the connection where the lane belongs now.
func (p *Publisher) open(l *lane) (*session, error) {
	ep, own, err := p.connection(l)
	if err != nil {
		return nil, err
	}
	// The broker reads nothing from a connection that it blocks.
	if err := ep.writable(p.life, l.over); err != nil {
		return nil, err
	}
	open, all := 1, &p.conn.channels
	if !own {
		if open, err = all.take(); err != nil {
			return nil, err
		}
	}
	s, err := p.openSession(l, ep, own)
	if err == nil {
		return s, nil
	}
	limit, none := exhausted(err)
	if none {
		err = fmt.Errorf("%w: %w", ErrTooManyChannels, err)
	}
	if limit && !own {
		all.limited(open)
	}
	if !own {
		all.put()
	}
	return nil, err
}

// connection gives the connection where the lane belongs now, and says whether it is
// its own.
func (p *Publisher) connection(l *lane) (ep *epoch, own bool, err error) {
	if l.own != nil && !l.staysAlone {
		if ep, _ := l.own.epochs.get(); ep != nil && (l.alone || l.needsOwn.Load()) {
			return ep, true, nil
		}
		p.closeOwn(l) // it is lost or not needed any more
	}
	if l.alone {
		if ep, err := p.ownConnection(l); ep != nil || err != nil {
			return ep, true, err
		}
		p.closeOwn(l)
	}
	l.waits.Store(p.conn.publish)
	ep, err = p.conn.publish.epochs.await(p.life, l.over, p.conn.publish.missing)
	return ep, false, err
}

// ownConnection waits for the lane's own connection. It gives nil when the broker does not
// accept one, perhaps because of a limit: then the lane uses the shared connection, unless
// it is known to harm other lanes there.
func (p *Publisher) ownConnection(l *lane) (*epoch, error) {
	own := p.ownLink(l)
	l.waits.Store(own)
	for {
		ep, changed := own.epochs.get()
		switch {
		case ep != nil:
			return ep, nil
		case isDone(l.over):
			return nil, ErrClosed
		case !l.staysAlone && own.failure() != nil && p.conn.publish.ready() == nil:
			return nil, nil
		}
		select {
		case <-changed:
		case <-l.over:
		case <-p.life.Done():
			return nil, ErrClosed
		}
	}
}

// ownLink gives the link of the lane's own connection. It starts one if there is none.
func (p *Publisher) ownLink(l *lane) *link {
	if l.own == nil {
		l.own = startLink(p.conn.config, l.name())
	}
	return l.own
}

// closeOwn closes the lane's own connection, if it has one, in the background.
func (p *Publisher) closeOwn(l *lane) {
	own := l.own
	l.own = nil
	if own != nil {
		p.running.Go(func() { own.close(p.life) })
	}
}

// isolate gives a lane a connection of its own after the broker has closed the connection
// because of a message: the lane had messages on their way, so it may have been one of them.
func (p *Publisher) isolate(l *lane, wasAlone bool, reason *amqp.Error) {
	before := [...]bool{l.alone, l.staysAlone}
	l.alone, l.staysAlone = true, l.staysAlone || wasAlone
	if before != [...]bool{l.alone, l.staysAlone} {
		p.conn.config.Logger.Warn("the broker has closed a connection because of a message, the lane gets a connection of its own",
			zap.String("lane", l.name()), zap.Bool("was_alone", wasAlone), zap.Error(reason))
	}
}

// closesChannel says whether the broker has closed a channel because of what was sent on it.
func closesChannel(e *amqp.Error) bool { return e != nil && e.Server && e.Recover }

// closesConnection says whether the broker has closed a connection because of what was sent
// on it. 320 means that an operator has closed it or that the broker stops, 530 is a limit.
func closesConnection(e *amqp.Error) bool {
	return e != nil && e.Server && !e.Recover && e.Code != amqp.ConnectionForced && e.Code != amqp.NotAllowed
}

// missing says why the lane has no channel.
func (l *lane) missing() string {
	if link := l.waits.Load(); link != nil {
		if missing := link.missing(); missing != "" {
			return missing
		}
	}
	if err := l.failed.Load(); err != nil {
		return fmt.Sprintf("no publishing channel: %v", *err)
	}
	return "the publishing channel is not open yet"
}

// send sends a message in the first session that accepts it.
func (l *lane) send(ctx context.Context, c *Confirmation, m *Message) error {
	for {
		s, err := l.session.await(ctx, l.over, l.missing)
		if err == nil {
			err = s.ep.writable(ctx, l.over)
		}
		if err == nil {
			err = s.send(ctx, c, m)
		}
		switch {
		case errors.Is(err, errSessionOver):
			continue
		case errors.Is(err, ErrClosed):
			return l.reason
		default:
			return err
		}
	}
}
