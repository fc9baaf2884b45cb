package messaging

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// MinBrokerVersion is the oldest RabbitMQ that Connect accepts. Dead-lettering
// and direct reply-to have faults below it.
const MinBrokerVersion = "4.3.1"

// maxRefusals is how many refusals in a row Connect believes.
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

	epochs current[epoch]

	mu      sync.Mutex
	lastErr error

	stop context.CancelFunc
	done chan struct{}
}

// An epoch is one connection, from its handshake to its end.
type epoch struct {
	conn        *amqp.Connection
	raw         *socket
	callTimeout time.Duration

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
	return &link{
		config: config,
		role:   role,
		log:    config.Logger.With(zap.String("connection", role)),
		done:   make(chan struct{}),
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
			supervised, cancel := context.WithCancel(context.WithoutCancel(ctx))
			l.stop = cancel
			l.set(first, nil) // ready when Connect returns
			go l.supervise(supervised, first)
			return l, nil
		}
		if refused {
			// The library reads a handshake that breaks off as a refusal too.
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
			l.log.Warn("broker not reachable, trying again", zap.Error(err))
		}
		if !wait.sleep(ctx) {
			return nil, fmt.Errorf("connect to the broker: %w (last attempt: %w)", context.Cause(ctx), last)
		}
	}
}

// isRefusal says whether the broker refuses us for a reason that only people can
// cure, and that every node of it would give.
func isRefusal(err error) bool {
	var refused *amqp.Error
	if errors.As(err, &refused) && (refused.Code == amqp.AccessRefused || refused.Code == amqp.NotAllowed) {
		return true // 403: user, password or rights. 530: no such virtual host.
	}
	return errors.Is(err, ErrBrokerTooOld)
}

// isDistrust says whether one of the two sides refuses the other's certificate or
// version of TLS. Only people can cure that, but another node may have a better one.
func isDistrust(err error) bool {
	var distrusted *tls.CertificateVerificationError
	// An alert of the broker has no type in crypto/tls.
	return errors.As(err, &distrusted) || strings.Contains(err.Error(), "remote error: tls: ")
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
					l.log.Warn("connect failed, trying again", zap.Error(err))
				}
				if !wait.sleep(ctx) {
					return
				}
				continue
			}
		}
		born := time.Now()
		select {
		case <-ep.done:
			l.log.Warn("connection lost", zap.Error(ep.err))
			l.set(nil, ep.err)
		case <-ctx.Done():
			l.set(nil, ErrClosed)
			ep.close()
			return
		}
		ep = nil
		if time.Since(born) > l.config.MaxBackoff {
			wait.reset()
		}
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

// ready is nil while the link is connected and not blocked.
func (l *link) ready() error {
	ep, _ := l.epochs.get()
	l.mu.Lock()
	last := l.lastErr
	l.mu.Unlock()
	if ep == nil {
		return fmt.Errorf("%s connection is down: %w", l.role, errors.Join(last, ErrConnectionLost))
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

// dial tries each URL once, in random order. refused says that waiting will not
// help: the broker refuses us, or there is no trust at any URL.
func (l *link) dial(ctx context.Context) (ep *epoch, refused bool, err error) {
	var errs []error
	refused = true
	for _, i := range rand.Perm(len(l.config.URLs)) {
		ep, err := l.dialOne(ctx, l.config.URLs[i])
		if err == nil {
			return ep, false, nil
		}
		if isRefusal(err) {
			return nil, true, err
		}
		refused = refused && isDistrust(err)
		errs = append(errs, err)
	}
	return nil, refused, errors.Join(errs...)
}

func (l *link) dialOne(ctx context.Context, url string) (*epoch, error) {
	c := l.config
	uri, err := amqp.ParseURI(url)
	if err != nil {
		return nil, errors.New("not an AMQP URL")
	}
	if c.User != "" {
		uri.Username, uri.Password = c.User, c.Password
	}
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	var raw *socket
	release := func() bool { return true }
	config := amqp.Config{
		// The library wipes the password after use: a new one for each attempt.
		SASL:       []amqp.Authentication{&amqp.PlainAuth{Username: uri.Username, Password: uri.Password}},
		Heartbeat:  c.Heartbeat,
		Properties: amqp.NewConnectionProperties(),
		Dial: func(network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// The handshakes end with ctx, which may be cancelled before its deadline.
			// The library sets deadlines of its own afterwards.
			release = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			raw = newSocket(conn, c.WriteTimeout)
			return raw, nil
		},
	}
	config.Properties.SetClientConnectionName(c.Name + "/" + l.role)
	if c.TLS != nil {
		config.TLSClientConfig = c.TLS.Clone()
	}
	conn, err := amqp.DialConfig(url, config)
	release() // before cancel
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, fmt.Errorf("connect to %s:%d: %w", uri.Host, uri.Port, err)
	}
	version, _ := conn.Properties["version"].(string)
	if !atLeast(version, MinBrokerVersion) {
		err := fmt.Errorf("%w: %s:%d runs RabbitMQ %q, at least %s is needed", ErrBrokerTooOld, uri.Host, uri.Port, version, MinBrokerVersion)
		return nil, errors.Join(err, conn.CloseDeadline(time.Now().Add(time.Second)))
	}
	l.log.Info("connected", zap.String("node", fmt.Sprintf("%s:%d", uri.Host, uri.Port)), zap.String("broker_version", version))
	return newEpoch(conn, raw, c.CallTimeout), nil
}

func newEpoch(conn *amqp.Connection, raw *socket, callTimeout time.Duration) *epoch {
	ep := &epoch{
		conn:        conn,
		raw:         raw,
		callTimeout: callTimeout,
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
			ep.setBlocked(b.Active)
		case reason := <-closed:
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

func (ep *epoch) setBlocked(blocked bool) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.blocked = blocked
	close(ep.flipped)
	ep.flipped = make(chan struct{})
}

// isBlocked says whether the broker has asked for silence, and gives a channel
// that is closed when that changes.
func (ep *epoch) isBlocked() (bool, <-chan struct{}) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.blocked, ep.flipped
}

// guard runs a synchronous AMQP method, which the library lets wait for ever, and
// gives the connection up when it takes too long.
func (ep *epoch) guard(call func() error) error {
	timer := time.AfterFunc(ep.callTimeout, func() { _ = ep.raw.Close() })
	defer timer.Stop()
	return call()
}

// halfway is how long guardUntil lets a call go on when nobody waits for it any more:
// what it began is undone in better order when it ends.
const halfway = time.Second

// guardUntil is guard for a call that ends soon when ctx does.
func (ep *epoch) guardUntil(ctx context.Context, call func() error) error {
	var over atomic.Bool
	cut := func() {
		if over.CompareAndSwap(false, true) {
			_ = ep.raw.Close()
		}
	}
	timer := time.AfterFunc(ep.callTimeout, cut)
	defer timer.Stop()
	release := context.AfterFunc(ctx, func() { timer.Reset(min(halfway, ep.callTimeout)) })
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

// close ends the connection in bounded time, even where a write is stuck.
func (ep *epoch) close() {
	_ = ep.guard(ep.conn.Close)
	_ = ep.raw.Close()
	<-ep.done
}
