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

// DefaultStopTimeout is how long a process may take to stop. What stops it must wait longer
// than this before it kills the process, as compose does (stop_grace_period).
const DefaultStopTimeout = 40 * time.Second

// HTTPConfig is where the process listens, and how it stops.
type HTTPConfig struct {
	Addr string `env:"HTTP_ADDR,required,notEmpty"`
	// AdminAddr is for metrics, readiness with reasons, and profiles. Only the people who
	// operate the system should be able to reach it. Empty, which only tests use, means no
	// admin port.
	AdminAddr string `env:"ADMIN_ADDR,required,notEmpty"`
	// AllowedHosts are the host names that requests may use, without a port, besides
	// localhost, loopback addresses and the service's own name; "*" allows all. Other
	// requests get 421: they may come from a web page whose name resolves to this machine
	// (DNS rebinding). Health and readiness are answered under every name.
	AllowedHosts []string `env:"ALLOWED_HOSTS"`
	// StopTimeout is how long a whole stop may take. 0 means DefaultStopTimeout.
	StopTimeout time.Duration `env:"STOP_TIMEOUT" envDefault:"40s"`
	// DrainDelay is how long a stopping process still takes requests while it reports that
	// it is not ready. It should be a little longer than the interval in which the load
	// balancer checks the readiness.
	DrainDelay time.Duration `env:"DRAIN_DELAY" envDefault:"1s"`
}

func (c HTTPConfig) stopTimeout() time.Duration {
	if c.StopTimeout == 0 {
		return DefaultStopTimeout
	}
	return c.StopTimeout
}

// CheckStop returns an error if the settings leave too little time in a stop for a handler
// that takes this long, or for requests. The error names the setting.
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
	// MaxConns is the maximal number of connections. 0 means pool_max_conns of the URL, or
	// 10 without that. If both are given, the service does not start.
	MaxConns int32 `env:"DATABASE_MAX_CONNS"`
}

// BrokerConfig is how to reach RabbitMQ.
type BrokerConfig struct {
	URLs []string `env:"AMQP_URLS,required,notEmpty"`
	User string   `env:"AMQP_USER"`
	// Password belongs to User; its variable names a file.
	Password string `env:"AMQP_PASSWORD_FILE,file"`
	// PEM files for amqps URLs: the authority of the broker's certificate, and this client's
	// certificate and key. See [messaging.LoadTLS].
	CAFile          string `env:"AMQP_CA_FILE"`
	CertificateFile string `env:"AMQP_CERTIFICATE_FILE"`
	KeyFile         string `env:"AMQP_KEY_FILE"`
}

// Messaging returns the config of a connection with the service's name.
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

// Load reads the settings from the environment. If variables are missing or malformed, it
// returns an error of one line that names them.
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

// describe returns the text of err with the name of the variable instead of the field.
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
