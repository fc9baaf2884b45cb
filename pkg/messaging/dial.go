package messaging

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// dial tries each URL once, in random order. refused says that waiting will not help: the
// broker refuses the login, or at every URL one side refuses the other's certificate.
func (l *link) dial(ctx context.Context) (ep *epoch, refused bool, err error) {
	errs := make([]error, len(l.config.URLs)) // in the order of the URLs, so that the same faults give the same text
	refused = true
	for _, i := range rand.Perm(len(l.config.URLs)) {
		started := time.Now()
		ep, err := l.dialOne(ctx, l.config.URLs[i])
		l.tellAttempt(ctx, l.config.URLs[i], ep, err, started)
		if err == nil {
			return ep, false, nil
		}
		var refusal *refusalError
		if errors.As(err, &refusal) || errors.Is(err, ErrBrokerTooOld) {
			return nil, true, err
		}
		refused = refused && isDistrust(err)
		errs[i] = err
	}
	return nil, refused, errors.Join(errs...)
}

func (l *link) dialOne(ctx context.Context, url string) (*epoch, error) {
	c := l.config
	uri, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	credentials, err := l.credentials(ctx, uri)
	if err != nil {
		return nil, err
	}
	var raw *socket
	release := func() bool { return true }
	config := amqp.Config{
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
	auth := newLogin(c, credentials, config.Properties)
	config.SASL = []amqp.Authentication{auth}
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
		return nil, fmt.Errorf("connect to %s:%d: %w", uri.Host, uri.Port, handshakeError(err, uri, auth))
	}
	version, _ := conn.Properties["version"].(string)
	if !atLeast(version, minBrokerVersion) {
		err := fmt.Errorf("%w: %s:%d runs RabbitMQ %q, at least %s is needed", ErrBrokerTooOld, uri.Host, uri.Port, version, minBrokerVersion)
		return nil, errors.Join(err, conn.CloseDeadline(time.Now().Add(time.Second)))
	}
	ep := newEpoch(l, conn, raw)
	if !credentials.Expires.IsZero() {
		go l.renew(ep, credentials) //nolint:gosec // as long as the connection, not as its dial
	}
	return ep, nil
}

// refusalError is a refusal that every node would give and that waiting does not change.
type refusalError struct{ err error }

func (e *refusalError) Error() string { return e.err.Error() }
func (e *refusalError) Unwrap() error { return e.err }

// handshakeError distinguishes refusals from errors that go away by waiting. The broker says
// 530 for a virtual host that does not exist or for which the user has no right. It also says
// 530 for limits of connections of a user, a virtual host or a node, which are reached when
// clients reconnect before the broker has noticed that their old connections are lost. For a
// virtual host that is still starting it says 541.
func handshakeError(err error, uri amqp.URI, auth login) error {
	var answer *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrSASL):
		return &refusalError{fmt.Errorf("the broker does not offer %s: %w", auth.mechanism, err)}
	case !errors.As(err, &answer):
		return err
	case !answer.Server && (answer.Code == amqp.AccessRefused || answer.Code == amqp.NotAllowed):
		// The library only assumes a wrong password. The cause is not known.
		return errors.New("the handshake broke off")
	case !answer.Server:
		return err
	case answer.Code == amqp.AccessRefused,
		answer.Reason == fmt.Sprintf("NOT_ALLOWED - vhost %s not found", uri.Vhost),
		// No right for the virtual host; the user's name may come from a certificate or a
		// token. The text for a limit goes on after the name.
		strings.HasPrefix(answer.Reason, fmt.Sprintf("NOT_ALLOWED - access to vhost '%s' refused for user '", uri.Vhost)) && strings.HasSuffix(answer.Reason, "'"):
		return &refusalError{err}
	}
	return err
}

// isDistrust says whether one side refuses the other's certificate or version of TLS. Waiting
// does not help, but another node may have a valid certificate.
func isDistrust(err error) bool {
	var distrusted *tls.CertificateVerificationError
	// crypto/tls has no exported type for an alert from the broker.
	return errors.As(err, &distrusted) || strings.Contains(err.Error(), "remote error: tls: ")
}
