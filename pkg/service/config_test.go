package service_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

type settings struct {
	service.HTTPConfig
	service.DatabaseConfig
	Limit int `env:"LIMIT" envDefault:"3"`
}

func (s settings) Validate() error {
	if s.Limit < 1 {
		return errors.New("LIMIT: must be at least 1")
	}
	return nil
}

// setenv sets the required variables, and then those of the test; "-" unsets one.
func setenv(t *testing.T, variables map[string]string) {
	t.Helper()
	all := map[string]string{"HTTP_ADDR": ":0", "ADMIN_ADDR": ":0", "DATABASE_URL": "postgres://localhost/test"}
	for name, value := range variables {
		all[name] = value
	}
	for name, value := range all {
		t.Setenv(name, value)
		if value == "-" {
			require.NoError(t, os.Unsetenv(name))
		}
	}
}

func TestLoad(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte("hush\n"), 0o600))
	setenv(t, map[string]string{"DATABASE_PASSWORD_FILE": secret})
	got, err := service.Load[settings]()
	require.NoError(t, err)
	require.Equal(t, settings{
		HTTPConfig:     service.HTTPConfig{Addr: ":0", AdminAddr: ":0", StopTimeout: service.DefaultStopTimeout, DrainDelay: time.Second},
		DatabaseConfig: service.DatabaseConfig{URL: "postgres://localhost/test", Password: "hush\n"},
		Limit:          3,
	}, got)
}

func TestLoadNamesTheVariable(t *testing.T) {
	for _, c := range []struct {
		name      string
		variables map[string]string
		want      []string
	}{
		{"missing", map[string]string{"HTTP_ADDR": "-"}, []string{"HTTP_ADDR"}},
		{"empty", map[string]string{"HTTP_ADDR": ""}, []string{"HTTP_ADDR"}},
		{"no admin port", map[string]string{"ADMIN_ADDR": "-"}, []string{"ADMIN_ADDR"}},
		{"two at once", map[string]string{"HTTP_ADDR": "-", "DATABASE_URL": "-"}, []string{"HTTP_ADDR", "DATABASE_URL"}},
		{"malformed", map[string]string{"LIMIT": "many"}, []string{"LIMIT", "invalid syntax"}},
		{"malformed and embedded", map[string]string{"DATABASE_MAX_CONNS": "ten"}, []string{"DATABASE_MAX_CONNS", "invalid syntax"}},
		{"no such file", map[string]string{"DATABASE_PASSWORD_FILE": "/nowhere"}, []string{"DATABASE_PASSWORD_FILE", "/nowhere"}},
		{"refused by Validate", map[string]string{"LIMIT": "0"}, []string{"LIMIT: must be at least 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setenv(t, c.variables)
			_, err := service.Load[settings]()
			require.ErrorContains(t, err, "bad settings: ")
			require.NotContains(t, err.Error(), "\n")
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// The process does not start if a stop would leave too little time.
func TestCheckStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		config  service.HTTPConfig
		handler time.Duration
		want    string
	}{
		{"defaults", service.HTTPConfig{}, 24 * time.Second, ""},
		{"a handler that takes longer", service.HTTPConfig{}, 25 * time.Second, "STOP_TIMEOUT: must be at least 41s"},
		{"and more time", service.HTTPConfig{StopTimeout: 41 * time.Second}, 25 * time.Second, ""},
		{"less time", service.HTTPConfig{StopTimeout: 10 * time.Second}, time.Second, "STOP_TIMEOUT"},
		{"a time below zero", service.HTTPConfig{StopTimeout: -time.Second}, time.Second, "STOP_TIMEOUT"},
		{"a delay that leaves requests no time", service.HTTPConfig{DrainDelay: 20 * time.Second}, time.Second, "DRAIN_DELAY"},
		{"a delay below zero", service.HTTPConfig{DrainDelay: -1}, time.Second, "DRAIN_DELAY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.config.CheckStop(c.handler); c.want != "" {
				require.ErrorContains(t, err, c.want)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func TestBrokerConfig(t *testing.T) {
	t.Setenv("INSTANCE", "replica-2")
	log := zap.NewNop()
	got, err := service.BrokerConfig{URLs: []string{"amqp://rabbitmq"}, User: "orders", Password: "hush\n"}.Messaging("orders", log)
	require.NoError(t, err)
	require.NotNil(t, got.TLS)
	got.TLS = nil
	require.Equal(t, messaging.Config{
		URLs: []string{"amqp://rabbitmq"}, User: "orders", Password: "hush", AppID: "orders", Name: "orders@replica-2", Logger: log,
	}, got)
}

func TestBadTLSSettingsAreNamed(t *testing.T) {
	t.Parallel()
	_, err := service.BrokerConfig{URLs: []string{"amqps://rabbitmq"}, CAFile: "/nowhere/ca.pem"}.Messaging("orders", zap.NewNop())
	require.ErrorContains(t, err, "AMQP_CA_FILE")
	require.ErrorContains(t, err, "/nowhere/ca.pem")
	require.NotContains(t, err.Error(), "\n")
}
