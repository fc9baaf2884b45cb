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
	"example.com/orderflow/pkg/messaging/transactional"
)

// The times that are reserved for the last steps of a stop. Handlers get the rest.
const (
	keepRelay       = 11 * time.Second // a round in progress may wait 5 s for its confirms and take 5 s to store them
	keepPublisher   = time.Second
	keepConnections = 2 * time.Second
	keepAdmin       = time.Second
	keepDatabase    = time.Second

	stopReserve = keepRelay + keepPublisher + keepConnections + keepAdmin + keepDatabase
)

// Core has what every service needs: a migrated database with outbox and inbox, the
// connection to the broker, a publisher, the relay of the outbox, and an HTTP server. The app
// package of a service makes a Core, and adds consumers and routes when it runs.
//
// From start to stop:
//
//	New ─▶ Run: the ports answer, not ready ─▶ database ─▶ broker ─▶ wire ─▶ ready
//	       ctx is done: not ready ─▶ requests and consumers finish ─▶ relay ─▶
//	       publisher ─▶ connections ─▶ admin port ─▶ database
//
// If ctx is done during the start, the steps that have not begun are skipped.
type Core struct {
	Name     string
	Log      *zap.Logger
	Registry *prometheus.Registry
	// DB, Conn and Publisher are set and connected when Run calls wire. A commit of DB wakes
	// the relay of the outbox.
	DB        *transactional.DB
	Conn      *messaging.Conn
	Publisher *messaging.Publisher
	// Waiting returns how many messages are in the outbox; the number is at most a second old.
	Waiting func(ctx context.Context) (OutboxCount, error)

	config     HTTPConfig
	broker     messaging.Config
	pool       *pgxpool.Pool
	relay      *outbox.Relay
	migrations []Migrations
	server     *Server
	consumers  []*messaging.Consumer
	checks     []Check
	pruners    []pruner
	messages   *MessagingMetrics
	background sync.WaitGroup
	cancel     context.CancelFunc // ends the background goroutines; nil before the start
}

// New checks the settings and opens the ports. Requests are answered from [Core.Run] on.
func New(ctx context.Context, name string, c HTTPConfig, db DatabaseConfig, broker BrokerConfig, log *zap.Logger, migrations Migrations) (*Core, error) {
	core := &Core{
		Name: name, Log: log, Registry: NewRegistry(), config: c,
		migrations: []Migrations{
			migrations,
			{VersionTable: outbox.VersionTable, Files: outbox.Migrations},
			{VersionTable: inbox.VersionTable, Files: inbox.Migrations},
		},
	}
	var err error
	core.messages = NewMessagingMetrics(core.Registry)
	if core.broker, err = broker.Messaging(name, log, core.messages); err != nil {
		return nil, err
	}
	if core.pool, err = NewDatabase(ctx, db); err != nil {
		return nil, err
	}
	if core.server, err = NewServer(ctx, name, c, log, core.Registry); err != nil {
		core.pool.Close()
		return nil, err
	}
	core.Waiting = Cached(time.Second, countOutbox(core.pool))
	core.Registry.MustRegister(outboxMetrics{core.Waiting})
	core.Prune("inbox", core.pruneInbox)
	return core, nil
}

// Addr is the address of the public HTTP port.
func (c *Core) Addr() string { return c.server.Addr() }

// AdminAddr is the address of the admin port; empty if there is none.
func (c *Core) AdminAddr() string { return c.server.AdminAddr() }

// Consume starts a consumer. When the service stops, its consumers are drained first.
func (c *Core) Consume(q messaging.Queue, h messaging.Handler, opts ...messaging.ConsumeOption) error {
	consumer, err := c.Conn.Consume(q, h, opts...)
	return c.add(q.Name, consumer, err)
}

// Listen starts a consumer of a queue that belongs to this instance, see [messaging.Conn.Listen].
func (c *Core) Listen(q messaging.Queue, bindings []messaging.Binding, h messaging.Handler, opts ...messaging.ListenOption) error {
	name := "own"
	if len(bindings) > 0 {
		name = bindings[0].Source
	}
	consumer, err := c.Conn.Listen(q, bindings, h, opts...)
	return c.add(name, consumer, err)
}

func (c *Core) add(name string, consumer *messaging.Consumer, err error) error {
	if err != nil {
		return err
	}
	c.consumers = append(c.consumers, consumer)
	c.checks = append(c.checks, Check{Name: "consumer of " + name, Func: func(context.Context) error { return consumer.Ready() }})
	return nil
}

// Run answers health checks at once and waits for the database and the broker. Then it calls
// wire, which adds consumers and returns the routes, and works until ctx is done or a port
// fails. Finally it stops in order, within StopTimeout. If ctx is done during the start, Run
// stops in the same way, without an error. A Core can run once.
func (c *Core) Run(ctx context.Context, wire func() (*http.ServeMux, error)) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	served := make(chan error, 1)
	go func() {
		err := c.server.Serve()
		if err != nil {
			fail(err)
		}
		served <- err
	}()
	err := c.start(ctx, wire)
	switch {
	case ctx.Err() != nil && err != nil:
		c.Log.Info("stopped before the start was complete", zap.NamedError("waited_for", err))
		err = nil // if a port has failed, served has the error
	case err == nil:
		<-ctx.Done()
	}
	return errors.Join(err, c.stop(), <-served)
}

// start connects to the database and the broker, and starts the work.
func (c *Core) start(ctx context.Context, wire func() (*http.ServeMux, error)) error {
	c.server.ready.waitFor("waits for the database")
	err := AwaitDatabase(ctx, c.pool, c.Log, c.migrations...)
	if err != nil {
		return err
	}
	c.server.ready.waitFor("waits for the broker")
	if c.Conn, err = messaging.Connect(ctx, c.broker); err != nil {
		return err
	}
	if c.Publisher, err = c.Conn.Publisher(); err != nil {
		return err
	}
	c.relay = outbox.NewRelay(c.pool, c.Publisher, c.Log)
	c.DB = transactional.New(c.pool, c.relay.Wake, c.Log)
	c.checks = []Check{
		{Name: "broker", Func: func(context.Context) error { return c.Conn.Ready() }},
		{Name: "database", Func: c.pool.Ping},
	}
	beats, err := c.Conn.Publisher(messaging.WithoutConfirms())
	if err != nil {
		return err
	}
	routes, err := wire()
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.background.Go(func() { _ = c.relay.Run(work) }) // always nil
	c.background.Go(func() { heartbeat(work, beats, c.Name, c.messages.InFlight) })
	c.background.Go(func() { c.prune(work, pruneFirst, pruneEvery) })
	c.server.Start(routes, c.checks...)
	c.Log.Info("started", zap.String("addr", c.Addr()), zap.String("admin_addr", c.AdminAddr()))
	return nil
}

// Close closes a Core that was not run.
func (c *Core) Close() {
	if err := c.stop(); err != nil {
		c.Log.Warn("close", zap.Error(err))
	}
}

// stop first stops HTTP and the consumers, which use everything else; then the relay and the
// publisher, which send their messages; and finally the connections.
func (c *Core) stop() error {
	return Stop(c.config.stopTimeout(),
		Step{Name: "http and consumers", Func: c.drain},
		Step{Name: "relay and heartbeat", Keep: keepRelay, Func: c.stopBackground},
		Step{Name: "publisher", Keep: keepPublisher, Func: func(ctx context.Context) error {
			if c.Publisher == nil {
				return nil
			}
			return c.Publisher.Close(ctx)
		}},
		Step{Name: "connections", Keep: keepConnections, Func: func(ctx context.Context) error {
			if c.Conn == nil {
				return nil
			}
			return c.Conn.Close(ctx)
		}},
		Step{Name: "admin port", Keep: keepAdmin, Func: c.server.Close},
		Step{Name: "database", Keep: keepDatabase, Func: func(ctx context.Context) error { return Within(ctx, c.pool.Close) }},
	)
}

func (c *Core) stopBackground(ctx context.Context) error {
	if c.cancel != nil {
		c.cancel()
	}
	return Within(ctx, c.background.Wait)
}

func (c *Core) drain(ctx context.Context) error {
	errs := make([]error, len(c.consumers)+1)
	var wg sync.WaitGroup
	wg.Go(func() { errs[len(c.consumers)] = c.server.Drain(ctx) })
	for i, consumer := range c.consumers {
		wg.Go(func() { errs[i] = consumer.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
