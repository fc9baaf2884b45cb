package service

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/outbox"
)

// stopEach bounds each step of a stop: longer than a handler of ours may take.
const stopEach = 25 * time.Second

// Core is what every service on the bus has: its migrated database with outbox and
// inbox, its connection to the broker, a publisher, the outbox's relay, an HTTP
// server. A service's app package opens one, adds consumers and routes, and runs it.
type Core struct {
	Name      string
	Log       *zap.Logger
	Registry  *prometheus.Registry
	Pool      *pgxpool.Pool
	Conn      *messaging.Conn
	Publisher *messaging.Publisher
	Relay     *outbox.Relay

	server    *Server
	consumers []*messaging.Consumer
	pruners   []pruner
}

// Open opens the database, migrates it and connects to the broker; it waits for
// both until ctx is done.
func Open(ctx context.Context, name string, db DatabaseConfig, broker BrokerConfig, log *zap.Logger, migrations Migrations) (*Core, error) {
	c := &Core{Name: name, Log: log, Registry: NewRegistry()}
	config, err := broker.Messaging(name, log, MessagingMetrics(c.Registry))
	if err != nil {
		return nil, err
	}
	if c.Pool, err = OpenDatabase(ctx, db, log); err != nil {
		return nil, err
	}
	err = Migrate(ctx, c.Pool, migrations,
		Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations},
		Migrations{VersionTable: inbox.VersionTable, Files: inbox.Migrations})
	if err != nil {
		c.Pool.Close()
		return nil, err
	}
	c.Conn, err = messaging.Connect(ctx, config)
	if err != nil {
		c.Pool.Close()
		return nil, err
	}
	c.Publisher = c.Conn.Publisher()
	c.Relay = outbox.NewRelay(c.Pool, c.Publisher, log)
	c.Prune("inbox", c.pruneInbox)
	OutboxMetrics(c.Registry, c.Pool)
	return c, nil
}

// Consume starts a consumer that is drained first when the service stops.
func (c *Core) Consume(q messaging.Queue, h messaging.Handler, opts ...messaging.ConsumeOption) error {
	consumer, err := c.Conn.Consume(q, h, opts...)
	if err != nil {
		return err
	}
	c.consumers = append(c.consumers, consumer)
	return nil
}

// Hear starts a consumer of a queue that is this instance's own, see [messaging.Conn.Listen].
func (c *Core) Hear(q messaging.Queue, bindings []messaging.Binding, h messaging.Handler, opts ...messaging.ConsumeOption) error {
	consumer, err := c.Conn.Listen(q, bindings, h, opts...)
	if err != nil {
		return err
	}
	c.consumers = append(c.consumers, consumer)
	return nil
}

// Listen opens the port, and answers health, readiness and metrics beside the routes.
func (c *Core) Listen(addr string, routes *http.ServeMux) error {
	var err error
	c.server, err = Listen(addr, routes, c.Registry,
		Check{Name: "broker", Func: func(context.Context) error { return c.Conn.Ready() }},
		Check{Name: "database", Func: c.Pool.Ping})
	return err
}

// Addr is where HTTP is answered.
func (c *Core) Addr() string { return c.server.Addr() }

// Run serves until ctx is done or the HTTP server fails, and then stops.
func (c *Core) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var background sync.WaitGroup
	background.Go(func() { _ = c.Relay.Run(work) }) // always nil
	background.Go(func() { Heartbeat(work, c.Conn, c.Name) })
	background.Go(func() { c.prune(work, pruneFirst, pruneEvery) })
	served := make(chan error, 1)
	go func() { served <- c.server.Serve() }()

	var err error
	select {
	case <-ctx.Done():
		err = c.stop(cancel, &background)
		err = errors.Join(err, <-served)
	case err = <-served:
		err = errors.Join(err, c.stop(cancel, &background))
	}
	return err
}

// Close closes a Core that was never run.
func (c *Core) Close() {
	var none sync.WaitGroup
	if err := c.stop(func() {}, &none); err != nil {
		c.Log.Warn("close", zap.Error(err))
	}
}

// stop drains what brings work in, then sends what that has left, then hangs up.
func (c *Core) stop(cancelBackground func(), background *sync.WaitGroup) error {
	return Stop(stopEach,
		Step{"http and consumers", c.drain},
		Step{"relay and heartbeat", func(context.Context) error { cancelBackground(); background.Wait(); return nil }},
		Step{"publisher", c.Publisher.Close},
		Step{"connections", c.Conn.Close},
		Step{"database", func(context.Context) error { c.Pool.Close(); return nil }},
	)
}

func (c *Core) drain(ctx context.Context) error {
	errs := make([]error, len(c.consumers)+1)
	var wg sync.WaitGroup
	if c.server != nil {
		wg.Go(func() { errs[len(c.consumers)] = c.server.Shutdown(ctx) })
	}
	for i, consumer := range c.consumers {
		wg.Go(func() { errs[i] = consumer.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
