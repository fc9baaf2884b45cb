package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Credentials are the user and password of one login: see [Config.Credentials].
type Credentials struct {
	// User is the user who logs in; empty means [Config.User]. Messages do not carry it.
	User string
	// Password is a password, or a token. The broker's log and errors never have it.
	Password string
	// Expires is when Password becomes invalid. When a fifth of the time until then is left,
	// [Config.Credentials] is called again, and the new password is sent to the broker on
	// the open connection (connection.update-secret), which goes on. The zero time means
	// never.
	Expires time.Time
}

// leastRenewal is the shortest time between two calls for new credentials.
const leastRenewal = time.Second

// renewIn is the time from now until new credentials are asked for.
func (c Credentials) renewIn(now time.Time) time.Duration {
	return max(c.Expires.Sub(now)/5*4, leastRenewal)
}

// credentials gives the credentials for one attempt at a URL.
func (l *link) credentials(ctx context.Context, uri amqp.URI) (Credentials, error) {
	config := l.config
	switch {
	case config.Credentials != nil:
		var c Credentials
		err := errors.New("the function panicked or ended its goroutine")
		aside(l.log, "Credentials", func() { c, err = config.Credentials(ctx) })
		if err != nil {
			return Credentials{}, fmt.Errorf("Credentials: %w", err)
		}
		if c.User == "" {
			c.User = config.User
		}
		return c, nil
	case config.User != "":
		return Credentials{User: config.User, Password: config.Password}, nil
	default:
		return Credentials{User: uri.Username, Password: uri.Password}, nil
	}
}

// renew sends new credentials to the broker before those of a connection expire, until the
// connection ends. When the broker refuses them the connection ends, and the next one asks
// for others.
func (l *link) renew(ep *epoch, c Credentials) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-ep.done:
		case <-ctx.Done():
		}
	}()
	failing := trouble{log: l.log, fails: "credentials not renewed, trying again", works: "credentials renewed again"}
	wait := newBackoff(l.config.MaxBackoff)
	timer := time.NewTimer(c.renewIn(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		next, err := l.renewOnce(ctx, ep, c.User)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failing.note(err)
			if !wait.sleep(ctx) {
				return
			}
			timer.Reset(0)
			continue
		}
		failing.over()
		wait.reset()
		if next.Expires.IsZero() {
			return
		}
		timer.Reset(next.renewIn(time.Now()))
	}
}

func (l *link) renewOnce(ctx context.Context, ep *epoch, user string) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.DialTimeout)
	defer cancel()
	c, err := l.credentials(ctx, amqp.URI{})
	if err != nil {
		return c, err
	}
	if c.User != user {
		return c, errors.New("Credentials gave another user, which needs a new connection")
	}
	if err := ep.guard(func() error { return ep.conn.UpdateSecret(c.Password, "renewed") }); err != nil {
		return c, fmt.Errorf("update the secret: %w", err)
	}
	return c, nil
}

// SASL mechanisms.
const (
	mechanismPlain    = "PLAIN"
	mechanismExternal = "EXTERNAL"
)

// login is a SASL mechanism that also asks the broker to report a refused login. Without this
// the broker only closes the connection, as it does when it stops, and the library reports
// every handshake that breaks off as a wrong password.
type login struct {
	mechanism, response string
	properties          amqp.Table // of the client
}

func newLogin(config Config, c Credentials, properties amqp.Table) login {
	if config.ByCertificate {
		return login{mechanismExternal, "", properties}
	}
	return login{mechanismPlain, "\x00" + c.User + "\x00" + c.Password, properties}
}

// Mechanism gives the name of the mechanism.
func (l login) Mechanism() string { return l.mechanism }

// Response is called after the library has put its capabilities into the client's properties
// and before it sends them. It adds the capability for which the library has no setting.
func (l login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return l.response
}
