// Package app wires orders.
package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/catalogue"
	"example.com/orderflow/services/orders/internal/events"
	"example.com/orderflow/services/orders/internal/httpapi"
	"example.com/orderflow/services/orders/internal/postgres"
)

// Config is what orders reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
}

// App is a running orders.
type App struct{ *service.Core }

// New opens the database, the broker and the port, and starts to consume.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	core, err := service.Open(ctx, contract.OrdersUser, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "orders_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	a := &App{Core: core}
	if err := a.start(c); err != nil {
		core.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) start(c Config) error {
	store := postgres.NewStore(a.Pool)
	a.Prune("idempotency_keys", func(ctx context.Context) (int64, error) {
		return store.PruneKeys(ctx, service.IdempotencyKeyRetention)
	})
	pricing := httpapi.Pricing{Caller: a.Conn.Caller()}
	skus := catalogue.New(pricing.SKUs)

	handlers := &events.Handlers{
		Store:         store,
		Wake:          a.Relay.Wake,
		DropCatalogue: skus.Drop,
		Moved:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orders_moved_total", Help: "Orders by the status they moved to."}, []string{"status"}),
		Ignored:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orders_ignored_events_total", Help: "Events that changed nothing."}, []string{"event"}),
		Log:           a.Log,
	}
	a.Registry.MustRegister(handlers.Moved, handlers.Ignored)
	for _, shard := range contract.PaymentShards {
		if err := a.Consume(shard, handlers.Payments()); err != nil {
			return err
		}
	}
	if err := a.Consume(contract.OrdersExpire, handlers.Expired(), messaging.Concurrency(2)); err != nil {
		return err
	}
	// Each replica hears of each price change, in a queue of its own.
	err := a.Hear(contract.PriceListener, []messaging.Binding{{Source: contract.PricesChanged}}, handlers.PriceChanges(),
		messaging.OnSubscribe(skus.Drop)) // a change may have been missed
	if err != nil {
		return err
	}
	api := &httpapi.API{
		Store: store,
		Knows: skus.Knows,
		Quote: pricing.Quote,
		Waiting: httpapi.Cached(time.Second, func(ctx context.Context) (int64, error) {
			waiting, _, err := outbox.Count(ctx, a.Pool)
			return waiting, err
		}),
		Wake: a.Relay.Wake,
		Log:  a.Log,
	}
	return a.Listen(c.Addr, api.Routes())
}
