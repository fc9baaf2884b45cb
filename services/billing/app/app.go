// Package app wires billing.
package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/billing/internal/charge"
	"example.com/orderflow/services/billing/internal/messages"
	"example.com/orderflow/services/billing/internal/postgres"
)

const (
	// refundConcurrency is small: refunds are rare, and nobody waits for them.
	refundConcurrency = 2
	// databaseTime is what a handler gets on top of the provider's time.
	databaseTime = 10 * time.Second
)

// Config is what billing reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	ProviderURL string `env:"PROVIDER_URL,required,notEmpty"`
	// ProviderKey is what the provider knows us by, as a bearer token.
	ProviderKey service.Secret `env:"PROVIDER_KEY_FILE"`
	// ProviderTimeout bounds one call of the payment provider.
	ProviderTimeout time.Duration `env:"PROVIDER_TIMEOUT" envDefault:"10s"`
	// Concurrency is how many charges run at once. Small is good: what was taken
	// from the queue early is overtaken by no express order.
	Concurrency int `env:"CONCURRENCY" envDefault:"4"`
}

// Validate names the setting that is wrong.
func (c Config) Validate() error {
	switch {
	case c.ProviderTimeout <= 0 || c.ProviderTimeout > time.Minute:
		return errors.New("PROVIDER_TIMEOUT: must be above zero and at most 1m")
	case c.Concurrency < 1:
		return errors.New("CONCURRENCY: must be at least 1")
	default:
		return c.CheckStop(c.handlerTimeout())
	}
}

// handlerTimeout is for a call of the provider and what the database does around it.
func (c Config) handlerTimeout() time.Duration { return c.ProviderTimeout + databaseTime }

// App is a running billing.
type App struct {
	*service.Core
	config   Config
	provider *charge.Provider
}

// New checks the settings and opens the ports.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	provider, err := service.OutsideURL(c.ProviderURL)
	if err != nil {
		return nil, fmt.Errorf("PROVIDER_URL: %w", err)
	}
	core, err := service.New(ctx, contract.BillingUser, c.HTTPConfig, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "billing_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	return &App{Core: core, config: c, provider: charge.NewProvider(provider, c.ProviderKey, c.ProviderTimeout, providerMetrics(core.Registry))}, nil
}

// wire makes the consumers. There are no routes.
func (a *App) wire() (*http.ServeMux, error) {
	handlers := &messages.Handlers{Service: charge.NewService(postgres.NewStore(a.DB), a.provider, a.Log)}
	timeout := messaging.HandlerTimeout(a.config.handlerTimeout())
	if err := a.Consume(contract.BillingCharge, handlers.Commands(), timeout, messaging.Concurrency(a.config.Concurrency)); err != nil {
		return nil, err
	}
	if err := a.Consume(contract.BillingRefund, handlers.Commands(), timeout, messaging.Concurrency(refundConcurrency)); err != nil {
		return nil, err
	}
	return http.NewServeMux(), nil
}

// Run works until ctx is done, and then stops in order.
func (a *App) Run(ctx context.Context) error {
	defer a.provider.Close()
	return a.Core.Run(ctx, a.wire)
}

// providerMetrics times the calls of the payment provider, by their outcome.
func providerMetrics(registry *prometheus.Registry) charge.Observe {
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "billing_provider_seconds", Help: "Calls of the payment provider.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	}, []string{"operation", "outcome"})
	registry.MustRegister(calls)
	return func(operation, outcome string, took time.Duration) {
		calls.WithLabelValues(operation, outcome).Observe(took.Seconds())
	}
}
