package service

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
)

// HTTPConfig is where the process listens.
type HTTPConfig struct {
	Addr string `env:"HTTP_ADDR,required,notEmpty"`
}

// DatabaseConfig is how to reach the service's own database.
type DatabaseConfig struct {
	URL string `env:"DATABASE_URL,required,notEmpty"`
	// Password replaces the one in the URL; its variable names a file.
	Password string `env:"DATABASE_PASSWORD_FILE,file"`
	MaxConns int32  `env:"DATABASE_MAX_CONNS" envDefault:"10"`
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
func (c BrokerConfig) Messaging(service string, log *zap.Logger, hooks messaging.Hooks) (messaging.Config, error) {
	tls, err := messaging.LoadTLS(c.CAFile, c.CertificateFile, c.KeyFile)
	if err != nil {
		return messaging.Config{}, fmt.Errorf("AMQP_CA_FILE, AMQP_CERTIFICATE_FILE, AMQP_KEY_FILE: %w", err)
	}
	return messaging.Config{
		URLs:     c.URLs,
		User:     c.User,
		Password: strings.TrimSpace(c.Password),
		AppID:    service,
		Name:     service + "@" + Instance(),
		TLS:      tls,
		Logger:   log,
		Hooks:    hooks,
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
