// Package app connects the parts of pricing-rpc.
package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/internal/httpapi"
	"example.com/orderflow/services/pricing-rpc/internal/messages"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
)

// handlerTimeout is for one database query and the reply. Callers wait less.
const handlerTimeout = 10 * time.Second

// Config is what pricing-rpc reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	// OperatorToken authorises price changes. Its variable is the name of a file.
	OperatorToken string `env:"OPERATOR_TOKEN_FILE,required,file"`
	Concurrency   int    `env:"CONCURRENCY" envDefault:"8"`
}

// Validate checks the settings. The error names the wrong one.
func (c Config) Validate() error {
	if strings.TrimSpace(c.OperatorToken) == "" {
		return errors.New("OPERATOR_TOKEN_FILE: the file is empty")
	}
	if c.Concurrency < 1 {
		return errors.New("CONCURRENCY: must be at least 1")
	}
	return c.CheckStop(handlerTimeout)
}

// App is an instance of pricing-rpc.
type App struct {
	*service.Core
	config Config
}

// New checks the settings and opens the ports.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	core, err := service.New(ctx, contract.PricingUser, c.HTTPConfig, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "pricing_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	return &App{core, c}, nil
}

// Run works until ctx is done, and then stops in order, see [service.Core.Run].
func (a *App) Run(ctx context.Context) error { return a.Core.Run(ctx, a.wire) }

// wire makes the consumer and the routes.
func (a *App) wire() (*http.ServeMux, error) {
	store := postgres.NewStore(a.DB)
	handlers := &messages.Handlers{Store: store, Publisher: a.Publisher, Log: a.Log}
	err := a.Consume(contract.PricingQuoteQueue, handlers.Calls(), messaging.HandlerTimeout(handlerTimeout), messaging.Concurrency(a.config.Concurrency))
	if err != nil {
		return nil, err
	}
	api := &httpapi.API{Store: store, OperatorToken: strings.TrimSpace(a.config.OperatorToken), Log: a.Log}
	return api.Routes(), nil
}
