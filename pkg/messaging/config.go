package messaging

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
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
	// They are given together.
	User, Password string
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
	// to [DefaultMaxMessageSize].
	MaxMessageSize int
	// Logger defaults to none.
	Logger *zap.Logger
	// Hooks are called for every message; each may be nil.
	Hooks Hooks
}

// Hooks is where metrics come in. They run on the path of every message: return
// at once and never block. A panic is logged and changes nothing else.
type Hooks struct {
	// Publishing is called before a message or a call is sent, with the context of
	// whoever sends it, and may add headers. What it returns, which may be nil, is
	// called with the outcome. m.Headers is the hook's to change.
	Publishing func(ctx context.Context, route Route, m *Message) (done func(err error))
	// Published is called when the outcome of a publish or a call is known. A call's
	// is its answer, whatever that says, and it took until then.
	Published func(route Route, messageType string, err error, took time.Duration)
	// Settled is called when a delivery has got its verdict.
	Settled func(d *Delivery, verdict Verdict, took time.Duration)
	// Away is called when a consumer finds that what its handlers need is away, with the
	// handler's error (see [Unavailable]), and with nil when it is back or the consumer
	// stops. The calls of one consumer come one after the other.
	Away func(queue string, err error)
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
		c.MaxMessageSize = DefaultMaxMessageSize
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Hooks = c.Hooks.caught(c.Logger)
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

// user is the broker user that the connection logs in as.
func (c Config) user() string {
	if c.User != "" {
		return c.User
	}
	uri, err := amqp.ParseURI(c.URLs[0])
	if err != nil {
		return ""
	}
	return uri.Username
}
