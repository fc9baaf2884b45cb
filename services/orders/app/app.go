// Package app connects the parts of orders.
package app

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/httpapi"
	"example.com/orderflow/services/orders/internal/messages"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
	"example.com/orderflow/services/orders/internal/pricing"
)

// handlerTimeout is enough for a few database statements.
const handlerTimeout = 10 * time.Second

// Config is what orders reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
}

// Validate checks the settings. The error names the wrong one.
func (c Config) Validate() error { return c.CheckStop(handlerTimeout) }

// App is an instance of orders.
type App struct{ *service.Core }

// New checks the settings and opens the ports.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	core, err := service.New(ctx, contract.OrdersUser, c.HTTPConfig, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "orders_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	return &App{core}, nil
}

// Run works until ctx is done, and then stops in order, see [service.Core.Run].
func (a *App) Run(ctx context.Context) error { return a.Core.Run(ctx, a.wire) }

// wire makes the consumers and the routes.
func (a *App) wire() (*http.ServeMux, error) {
	store := postgres.NewStore(a.DB)
	a.Prune("idempotency_keys", func(ctx context.Context) (int64, error) {
		return store.PruneKeys(ctx, service.IdempotencyKeyRetention)
	})
	prices := pricing.NewClient(a.Conn.Caller())
	handlers := &messages.Handlers{
		Store:         store,
		DropCatalogue: prices.Drop,
		Moved:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orders_moved_total", Help: "Changes of orders, by the new status."}, []string{"status"}),
		Ignored:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orders_ignored_events_total", Help: "Events that changed nothing."}, []string{"event"}),
		Log:           a.Log,
	}
	a.Registry.MustRegister(handlers.Moved, handlers.Ignored)
	timeout := messaging.HandlerTimeout(handlerTimeout)
	for _, shard := range contract.PaymentShards {
		if err := a.Consume(shard, handlers.Payments(), timeout); err != nil {
			return nil, err
		}
	}
	if err := a.Consume(contract.OrdersExpire, handlers.Expired(), timeout, messaging.Concurrency(2)); err != nil {
		return nil, err
	}
	// Each replica gets each price change in its own queue.
	err := a.Listen(contract.PriceListener, []messaging.Binding{{Source: contract.PricesChanged}}, handlers.PriceChanges(),
		messaging.OnSubscribe(prices.Drop)) // a change may have been missed
	if err != nil {
		return nil, err
	}
	waiting := func(ctx context.Context) (int64, error) {
		count, err := a.Waiting(ctx)
		return count.Waiting, err
	}
	api := &httpapi.API{Service: order.NewService(store, prices, waiting, a.Log), Store: store, Log: a.Log}
	return api.Routes(), nil
}
