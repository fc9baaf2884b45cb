package service

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
)

// DefaultStopTimeout is how long a process has to stop. Whoever stops it must wait
// longer before it kills: compose's stop_grace_period does.
const DefaultStopTimeout = 40 * time.Second

// HTTPConfig is where the process listens, and how it stops.
type HTTPConfig struct {
	Addr string `env:"HTTP_ADDR,required,notEmpty"`
	// AdminAddr is for metrics, readiness with its reasons, and profiles. Nobody but those
	// who run the system should reach it. Empty, which only tests can have, is for none.
	AdminAddr string `env:"ADMIN_ADDR,required,notEmpty"`
	// AllowedHosts are names that requests may be addressed to, without a port, beside
	// localhost, addresses of loopback and the service's own name; "*" is for any. Other
	// requests are answered with 421: they may come from a page that has made its own name
	// lead here. Health and readiness are answered by any name.
	AllowedHosts []string `env:"ALLOWED_HOSTS"`
	// StopTimeout is how long all of a stop may take together. 0 is for DefaultStopTimeout.
	StopTimeout time.Duration `env:"STOP_TIMEOUT" envDefault:"40s"`
	// DrainDelay is for how long a process that stops still takes requests while it says
	// that it is not ready: whoever balances load looks so often, and a little longer.
	DrainDelay time.Duration `env:"DRAIN_DELAY" envDefault:"1s"`
}

func (c HTTPConfig) stopTimeout() time.Duration {
	if c.StopTimeout == 0 {
		return DefaultStopTimeout
	}
	return c.StopTimeout
}

// CheckStop says whether the stop leaves a handler that takes this long the time to
// finish, and requests too. The error names the setting.
func (c HTTPConfig) CheckStop(longestHandler time.Duration) error {
	switch total := c.stopTimeout(); {
	case c.DrainDelay < 0:
		return errors.New("DRAIN_DELAY: must not be negative")
	case total < longestHandler+stopReserve:
		return fmt.Errorf("STOP_TIMEOUT: must be at least %s, so that a handler of %s can finish", longestHandler+stopReserve, longestHandler)
	case total < c.DrainDelay+requestTimeout+stopReserve:
		return fmt.Errorf("STOP_TIMEOUT: must be at least %s, so that after a DRAIN_DELAY of %s requests can finish", c.DrainDelay+requestTimeout+stopReserve, c.DrainDelay)
	default:
		return nil
	}
}

// DatabaseConfig is how to reach the service's own database.
type DatabaseConfig struct {
	URL string `env:"DATABASE_URL,required,notEmpty"`
	// Password replaces the one in the URL; its variable names a file.
	Password string `env:"DATABASE_PASSWORD_FILE,file"`
	// MaxConns bounds the pool. 0 is for what pool_max_conns in the URL says, or else 10;
	// with both of them the service does not start.
	MaxConns int32 `env:"DATABASE_MAX_CONNS"`
}

// BrokerConfig is how to reach RabbitMQ.
type BrokerConfig struct {
	URLs []string `env:"AMQP_URLS,required,notEmpty"`
	User string   `env:"AMQP_USER"`
	// Password belongs to User; its variable names a file.
	Password string `env:"AMQP_PASSWORD_FILE,file"`
	// PEM files for amqps URLs: who signs the broker's certificate, and what this
	// client shows of itself. See [messaging.LoadTLS].
	CAFile          string `env:"AMQP_CA_FILE"`
	CertificateFile string `env:"AMQP_CERTIFICATE_FILE"`
	KeyFile         string `env:"AMQP_KEY_FILE"`
}

// Messaging is the config of a connection in the service's name.
func (c BrokerConfig) Messaging(service string, log *zap.Logger, observers ...messaging.Observer) (messaging.Config, error) {
	tls, err := messaging.LoadTLS(c.CAFile, c.CertificateFile, c.KeyFile)
	if err != nil {
		return messaging.Config{}, fmt.Errorf("AMQP_CA_FILE, AMQP_CERTIFICATE_FILE, AMQP_KEY_FILE: %w", err)
	}
	return messaging.Config{
		URLs:      c.URLs,
		User:      c.User,
		Password:  strings.TrimSpace(c.Password),
		AppID:     service,
		Name:      service + "@" + Instance(),
		TLS:       tls,
		Logger:    log,
		Observers: observers,
	}, nil
}

// Load reads the settings from the environment. What is missing or malformed is
// an error of one line, which names the variables.
func Load[T any]() (T, error) {
	config, err := env.ParseAs[T]()
	if err != nil {
		var all env.AggregateError
		if errors.As(err, &all) {
			var lines []string
			for _, e := range all.Errors {
				lines = append(lines, describe[T](e))
			}
			err = errors.New(strings.Join(lines, "; "))
		}
		return config, fmt.Errorf("bad settings: %w", err)
	}
	if v, ok := any(config).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return config, fmt.Errorf("bad settings: %w", err)
		}
	}
	return config, nil
}

// describe names the variable where env names the field.
func describe[T any](err error) string {
	var malformed env.ParseError
	if errors.As(err, &malformed) {
		for _, field := range reflect.VisibleFields(reflect.TypeFor[T]()) {
			if field.Name == malformed.Name {
				variable, _, _ := strings.Cut(field.Tag.Get("env"), ",")
				return fmt.Sprintf("%s: %v", variable, malformed.Err)
			}
		}
	}
	return err.Error()
}
