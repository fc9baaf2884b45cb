package messaging

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Config is how to reach the broker. Only URLs is required.
type Config struct {
	// URLs name the nodes of one broker or cluster, "amqp://host:5672/vhost" or
	// "amqps://...". They are tried in random order. In a user, password or virtual host
	// of a URL, '#', '?', '/', '@' and '%' are percent-encoded.
	URLs []string
	// User and Password replace those in the URLs, so that secrets need not be there.
	// They are given together, except with Credentials or ByCertificate. Every message
	// carries User as its user id; the broker refuses one that is not the user who has
	// logged in.
	User, Password string
	// Credentials gives the user and password or token to log in with, in place of
	// Password and of those in the URLs. It is called for each attempt at a URL, and again
	// before the credentials expire. Several connections may call it at the same time, so
	// it should cache what is expensive. Its context ends after DialTimeout. An error is a
	// failed attempt to connect, which is repeated. Without User no message carries a user
	// id: see [AnyOwner].
	Credentials func(ctx context.Context) (Credentials, error)
	// ByCertificate logs in with the client certificate in TLS (SASL EXTERNAL), without a
	// password. The broker needs the plugin rabbitmq_auth_mechanism_ssl for it. User is
	// then the name that the broker takes from the certificate; without User no message
	// carries a user id.
	ByCertificate bool
	// AppID is the app_id of every message. Defaults to Name.
	AppID string
	// Name is the connection's name in the management UI, and every consumer tag begins
	// with it. At most 218 bytes. Defaults to the program's file name, or to "messaging"
	// when that is too long or not a valid text.
	Name string
	// TLS is used for amqps URLs. Its ServerName defaults to the host of the URL.
	TLS *tls.Config
	// Heartbeat is the interval of heartbeats, which detect a dead peer: whole seconds, at
	// least one. The broker's own setting (60 s by default) is the upper limit. Defaults to
	// 10 s.
	Heartbeat time.Duration
	// DialTimeout bounds one attempt at one URL, handshakes included. Defaults to 5 s.
	DialTimeout time.Duration
	// CallTimeout bounds each synchronous AMQP method (open a channel, declare,
	// cancel). When one takes longer the connection is closed. Defaults to 10 s. For
	// basic.consume the limit is 75 s, or CallTimeout if that is longer, because the broker
	// itself waits up to 65 s for the leader of a queue or stream that does not answer.
	CallTimeout time.Duration
	// WriteTimeout bounds one write to the socket, of at most 256 KiB. Defaults to 15 s:
	// it must be long, because a broker under a resource alarm stops reading.
	WriteTimeout time.Duration
	// MaxBackoff bounds the wait between attempts to connect or to subscribe. The wait is
	// random, up to a limit that starts at 100 ms and doubles ("full jitter"). Defaults to
	// 2 s.
	MaxBackoff time.Duration
	// MaxMessageSize is the size in bytes of the largest body that is sent. It should be
	// the broker's max_message_size: the broker closes the channel when it gets a larger
	// one. Defaults to 16 MiB, as in the broker.
	MaxMessageSize int
	// Logger is for the package's log lines, which never contain a body. Without one
	// nothing is logged.
	Logger *zap.Logger
	// Observers are called for events, for metrics and traces: see [Observer].
	Observers []Observer

	observers *observers // Observers and Logger, by event; set by withDefaults
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Heartbeat, 10 * time.Second},
		{&c.DialTimeout, 5 * time.Second},
		{&c.CallTimeout, 10 * time.Second},
		{&c.WriteTimeout, 15 * time.Second},
		{&c.MaxBackoff, 2 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Name == "" {
		c.Name = programName()
	}
	if c.AppID == "" {
		c.AppID = c.Name
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = defaultMaxMessageSize
	}
	observers := slices.Clone(c.Observers)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	} else {
		observers = slices.Insert(observers, 0, Observer(logObserver{c.Logger}))
	}
	c.observers = newObservers(observers, c.Logger)
	return c
}

// programName is the default of Name.
func programName() string {
	if len(os.Args) > 0 {
		if name := filepath.Base(os.Args[0]); len(name) <= maxConnectionName && checkText(name) == nil {
			return name
		}
	}
	return "messaging"
}

// byURL says whether the connection logs in with the user and password of the URLs.
func (c Config) byURL() bool { return c.User == "" && c.Credentials == nil && !c.ByCertificate }

// user is the broker user that the connection logs in as; empty if it is not known.
func (c Config) user() string {
	if !c.byURL() {
		return c.User
	}
	uri, err := amqp.ParseURI(c.URLs[0])
	if err != nil {
		return ""
	}
	return uri.Username
}
