package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// minBrokerVersion is the oldest RabbitMQ that Connect accepts. Earlier ones have faults in
// dead-lettering and direct reply-to.
const minBrokerVersion = "4.3.1"

// maxRefusals is after how many refusals in a row Connect fails. One is not enough: the
// virtual host or the user may be made at this moment.
const maxRefusals = 3

// A link keeps one connection to the broker: it dials again whenever the connection is lost.
// Each connection, from dial to loss, is an epoch. Channels and delivery tags of one epoch are
// never used in the next. So the client library's own recovery is not used: it keeps channels
// and restarts their numbering; see DESIGN.md.
type link struct {
	config Config
	role   string
	log    *zap.Logger

	dialling trouble // used by the goroutine that dials: in newLink, then in supervise

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

// startLink dials in the background, until it succeeds.
func startLink(config Config, role string) *link {
	l := makeLink(config, role)
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go l.supervise(ctx, nil)
	return l
}

// newLink dials until it is connected, ctx is done, or the broker refuses for a reason that
// will not go away by waiting.
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
		// The error of an attempt that ended with ctx is that of ctx: keep the one before.
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
			if ctx.Err() != nil { // close does not wait for the broker
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

// set sets the epoch, or why there is none, and wakes the goroutines that wait for it.
func (l *link) set(ep *epoch, err error) {
	l.mu.Lock()
	l.lastErr = err
	l.mu.Unlock()
	l.epochs.set(ep)
}

// await gives the current epoch. While there is none it waits.
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

// close ends the link and waits for its goroutine. When ctx is done it closes the connection
// without waiting for the closing handshake.
func (l *link) close(ctx context.Context) {
	if ep, _ := l.epochs.get(); ep != nil {
		release := context.AfterFunc(ctx, func() { _ = ep.raw.Close() })
		defer release()
	}
	l.stop()
	<-l.done
}

// tellAttempt tells observers of an attempt to connect, unless the link was closed meanwhile.
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
