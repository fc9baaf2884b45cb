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
	// They are given together, but for the next two. User is put into every message, and
	// the broker refuses one that is not who is logged in.
	User, Password string
	// Credentials gives what to log in with, in place of Password and of what is in the
	// URLs. It is called for each attempt at a URL, and again before what it gave
	// expires; several connections call it at once, so it should cache what is expensive.
	// Its context ends after DialTimeout. An error of it is an attempt that failed, which
	// is made again. Without User no message carries a user id: see [AnyOwner].
	Credentials func(ctx context.Context) (Credentials, error)
	// ByCertificate logs in by the client's certificate in TLS (SASL EXTERNAL), without a
	// password; the broker needs the plugin rabbitmq_auth_mechanism_ssl for it. User is
	// the name that the broker reads in the certificate; without it no message carries a
	// user id.
	ByCertificate bool
	// AppID is the app_id of every message. Defaults to Name.
	AppID string
	// Name is shown for the connection in the management UI, and begins the tag of every
	// consumer. At most 218 bytes. Defaults to the program's file name, or "messaging"
	// where that cannot be one.
	Name string
	// TLS is used for amqps URLs. The server's name defaults to the URL's host.
	TLS *tls.Config
	// Heartbeat finds dead peers: whole seconds, at least one. The broker's own setting,
	// 60 s by default, is the longest. Defaults to 10 s.
	Heartbeat time.Duration
	// DialTimeout bounds one attempt at one URL, handshakes included. Defaults to 5 s.
	DialTimeout time.Duration
	// CallTimeout bounds each synchronous AMQP method (open a channel, declare,
	// cancel). A connection that takes longer is given up. Defaults to 10 s. To consume
	// from a queue or stream whose leader does not answer takes the broker itself up to
	// 65 s, so that has 75 s, or CallTimeout if it is longer.
	CallTimeout time.Duration
	// WriteTimeout bounds one write to the socket, of at most 256 KiB. It is long, because a broker
	// under a resource alarm stops reading. Defaults to 15 s.
	WriteTimeout time.Duration
	// MaxBackoff bounds the wait between attempts, which starts at 100 ms, doubles
	// and is drawn at random below that ("full jitter"). Defaults to 2 s.
	MaxBackoff time.Duration
	// MaxMessageSize is the size in bytes of the largest body that is sent: what the
	// broker takes (max_message_size). It closes the channel over a larger one. Defaults
	// to 16 MiB, as the broker's does.
	MaxMessageSize int
	// Logger defaults to none. It never gets a body.
	Logger *zap.Logger
	// Observers are told what happens, for metrics and traces: see [Observer].
	Observers []Observer

	observers *observers // Observers and Logger, by what they want to know; set by withDefaults
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

// programName is what a program is called that does not name itself.
func programName() string {
	if len(os.Args) > 0 {
		if name := filepath.Base(os.Args[0]); len(name) <= maxConnectionName && checkText(name) == nil {
			return name
		}
	}
	return "messaging"
}

// byURL says whether the connection logs in with what is in the URLs.
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
