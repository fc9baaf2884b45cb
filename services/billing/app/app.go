// Package app connects the parts of billing.
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
	// refundConcurrency is small: refunds are rare, and not urgent.
	refundConcurrency = 2
	// databaseTime is added to the provider's timeout for a handler.
	databaseTime = 10 * time.Second
)

// Config is what billing reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	ProviderURL string `env:"PROVIDER_URL,required,notEmpty"`
	// ProviderKey is our key at the provider, sent as a bearer token.
	ProviderKey service.Secret `env:"PROVIDER_KEY_FILE"`
	// ProviderTimeout limits one call to the payment provider.
	ProviderTimeout time.Duration `env:"PROVIDER_TIMEOUT" envDefault:"10s"`
	// Concurrency is how many charges are handled at the same time. Keep it small: an
	// express order cannot overtake a charge that was already delivered.
	Concurrency int `env:"CONCURRENCY" envDefault:"4"`
}

// Validate checks the settings. The error names the wrong one.
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

// handlerTimeout is for a call to the provider, and the transactions before and after it.
func (c Config) handlerTimeout() time.Duration { return c.ProviderTimeout + databaseTime }

// App is an instance of billing.
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

// wire makes the consumers. Billing has no routes.
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

// Run works until ctx is done, and then stops in order, see [service.Core.Run].
func (a *App) Run(ctx context.Context) error {
	defer a.provider.Close()
	return a.Core.Run(ctx, a.wire)
}

// providerMetrics measures the duration of calls to the payment provider, by outcome.
func providerMetrics(registry *prometheus.Registry) charge.Observe {
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "billing_provider_seconds", Help: "Duration of calls to the payment provider.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	}, []string{"operation", "outcome"})
	registry.MustRegister(calls)
	return func(operation, outcome string, took time.Duration) {
		calls.WithLabelValues(operation, outcome).Observe(took.Seconds())
	}
}
