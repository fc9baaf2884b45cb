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
// the default exchange. What the broker does to the channel over one of them, such as
// closing or halting it, happens to no other lane.
//
// Lanes share one connection, as long as they cannot harm each other there:
//
//	new, for an exchange     a connection of its own, until the broker has confirmed
//	                         something: a wrong name may cost the connection
//	few on their way         the shared connection, with sharedWindow places
//	many on their way        a connection of its own, with the publisher's window:
//	                         see sharedWindow
//	its connection was       a connection of its own, until the broker has confirmed
//	closed over a message    something there; if that is closed too, it stays there
type lane struct {
	key     Route // see laneOf
	session current[session]
	users   atomic.Int64 // messages that wait or are on their way
	used    atomic.Int64 // when somebody took it last

	once   sync.Once
	over   chan struct{} // closed when it takes no more
	reason error         // why; read after over

	crowded atomic.Bool // had more on their way than sharedWindow, or wanted to

	waits  atomic.Pointer[link]  // for this connection, or has it
	failed atomic.Pointer[error] // why it has no channel, if that is known

	// The goroutine in run has these.
	alone  bool  // must not share a connection
	killer bool  // its own connection was closed over its messages
	own    *link // its own connection; nil while it has none
}

func newLane(key Route) *lane {
	return &lane{key: key, over: make(chan struct{}), alone: key.Exchange != ""}
}

func (l *lane) hold(now time.Time) {
	l.users.Add(1)
	l.used.Store(now.UnixNano())
}

// end lets the lane take no more. It ends when nothing of it is on its way.
func (l *lane) end(reason error) {
	l.once.Do(func() { l.reason = reason; close(l.over) })
}

// name is how connections and logs call it.
func (l *lane) name() string {
	if l.key.Exchange != "" {
		return "publish to exchange " + l.key.Exchange
	}
	return "publish to queue " + l.key.Key
}

// run keeps the lane's channel open, one session after another.
func (p *Publisher) run(l *lane) {
	defer p.hangUp(l)
	for wait := newBackoff(p.conn.config.MaxBackoff); ; {
		s, err := p.open(l)
		if err == nil {
			l.failed.Store(nil)
			l.session.set(s)
			err = s.run()
			if isDone(s.proven) || s.refused != nil && closesChannel(s.refused.reason) {
				wait.reset() // the lane works: who publishes what is refused sets the pace
			}
		}
		switch {
		case isDone(l.over):
			return
		case err == nil:
			continue // it moves to another connection
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

// open opens the lane's next session, where it belongs now.
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
	if l.own != nil && !l.killer {
		if ep, _ := l.own.epochs.get(); ep != nil && (l.alone || l.crowded.Load()) {
			return ep, true, nil
		}
		p.hangUp(l) // it is lost, or not needed; a new one says by itself whether it can be had
	}
	if l.alone {
		if ep, err := p.ownConnection(l); ep != nil || err != nil {
			return ep, true, err
		}
		p.hangUp(l)
	}
	l.waits.Store(p.conn.publish)
	ep, err = p.conn.publish.epochs.await(p.life, l.over, p.conn.publish.missing)
	return ep, false, err
}

// ownConnection waits for the lane's own connection. It gives none when the broker lets
// the lane have none, perhaps because of a limit: then it is better on the shared one
// than nowhere, unless it is known to harm the others there.
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
		case !l.killer && own.failure() != nil && p.conn.publish.ready() == nil:
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

// ownLink dials, if the lane has no connection of its own.
func (p *Publisher) ownLink(l *lane) *link {
	if l.own == nil {
		l.own = startLink(p.conn.config, l.name())
	}
	return l.own
}

// hangUp closes the lane's own connection in the background.
func (p *Publisher) hangUp(l *lane) {
	own := l.own
	l.own = nil
	if own != nil {
		p.running.Go(func() { own.close(p.life) })
	}
}

// suspect lets a lane go on alone that had messages on their way when the broker closed
// the connection over a message.
func (p *Publisher) suspect(l *lane, wasAlone bool, reason *amqp.Error) {
	before := [...]bool{l.alone, l.killer}
	l.alone, l.killer = true, l.killer || wasAlone
	if before != [...]bool{l.alone, l.killer} {
		p.conn.config.Logger.Warn("the broker has closed a connection over a message, a lane that was on it goes on alone",
			zap.String("lane", l.name()), zap.Bool("was_alone", wasAlone), zap.Error(reason))
	}
}

// closesChannel says whether the broker has closed a channel over what was sent on it.
func closesChannel(e *amqp.Error) bool { return e != nil && e.Server && e.Recover }

// closesConnection says whether the broker has closed a connection over what was sent
// on it. 320 is an operator's, or a broker's that stops; 530 is a limit.
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

// send puts a message on its way, in the first session that takes it.
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
