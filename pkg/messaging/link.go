package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// minBrokerVersion is the oldest RabbitMQ that Connect accepts. Dead-lettering
// and direct reply-to have faults below it.
const minBrokerVersion = "4.3.1"

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
			if ctx.Err() != nil { // close was in a hurry
				l.tellEnd(ep, ErrClosed)
				return
			}
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
func (l *link) await(ctx context.Context) (*epoch, error) {
	return l.epochs.await(ctx, l.done, l.missing)
}

// failure is why the link is not connected; nil while it is, or nothing is known yet.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastErr
}

// ready is nil while the link is connected and not blocked.
func (l *link) ready() error {
	ep, _ := l.epochs.get()
	switch missing := l.missing(); {
	case missing == "":
		return nil
	case ep == nil:
		return fmt.Errorf("%s: %w", missing, ErrConnectionLost)
	default:
		return errors.New(missing)
	}
}

// missing says why nothing can be sent; empty when the link is connected and not blocked.
func (l *link) missing() string {
	ep, _ := l.epochs.get()
	if ep != nil {
		return ep.missing()
	}
	if err := l.failure(); err != nil {
		return fmt.Sprintf("connection %q is down: %v", l.role, err)
	}
	return fmt.Sprintf("connection %q is not there yet", l.role)
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
