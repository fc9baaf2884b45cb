// Package app wires pricing-rpc.
package app

import (
	"context"
	"errors"
	"strings"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/internal/events"
	"example.com/orderflow/services/pricing-rpc/internal/httpapi"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
)

// Config is what pricing-rpc reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	// OperatorToken authorises price changes; its variable names a file.
	OperatorToken string `env:"OPERATOR_TOKEN_FILE,required,file"`
	Concurrency   int    `env:"CONCURRENCY" envDefault:"8"`
}

// Validate names the setting that is wrong.
func (c Config) Validate() error {
	if strings.TrimSpace(c.OperatorToken) == "" {
		return errors.New("OPERATOR_TOKEN_FILE: the file is empty")
	}
	if c.Concurrency < 1 {
		return errors.New("CONCURRENCY: must be at least 1")
	}
	return nil
}

// App is a running pricing-rpc.
type App struct{ *service.Core }

// New opens the database, the broker and the port, and starts to answer.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	core, err := service.Open(ctx, contract.PricingUser, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "pricing_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	a := &App{core}
	if err := a.start(c); err != nil {
		core.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) start(c Config) error {
	store := postgres.NewStore(a.Pool)
	handlers := &events.Handlers{Store: store, Publisher: a.Publisher, Log: a.Log}
	if err := a.Consume(contract.PricingQuote, handlers.Calls(), messaging.Concurrency(c.Concurrency)); err != nil {
		return err
	}
	api := &httpapi.API{Store: store, OperatorToken: strings.TrimSpace(c.OperatorToken), Wake: a.Relay.Wake, Log: a.Log}
	return a.Listen(c.Addr, api.Routes())
}
