// Package app connects the parts of the sandbox.
package app

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
	"example.com/orderflow/tools/sandbox/internal/httpapi"
	"example.com/orderflow/tools/sandbox/internal/mailbox"
	"example.com/orderflow/tools/sandbox/internal/postgres"
)

// Config is what the sandbox reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	SMTPAddr string `env:"SMTP_LISTEN_ADDR" envDefault:":2525"`
	// Credentials that the sandbox requires; empty means that it requires none.
	ProviderKey   service.Secret `env:"PROVIDER_KEY_FILE"`
	SMTPUser      string         `env:"SMTP_USER"`
	SMTPPassword  service.Secret `env:"SMTP_PASSWORD_FILE"`
	WebhookSecret service.Secret `env:"WEBHOOK_SECRET_FILE"`
}

// Validate checks the settings. The error names the wrong one.
func (c Config) Validate() error {
	if (c.SMTPUser == "") != (c.SMTPPassword == "") {
		return errors.New("SMTP_USER and SMTP_PASSWORD_FILE: give both, or neither")
	}
	return nil
}

// App is an instance of the sandbox.
type App struct {
	config Config
	log    *zap.Logger
	faults *fault.Switches
	pool   *pgxpool.Pool
	store  *postgres.Store
	server *service.Server
	mail   *mailbox.Server
}

// New checks the settings and opens the ports.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	pool, err := service.NewDatabase(ctx, c.DatabaseConfig)
	if err != nil {
		return nil, err
	}
	store := postgres.NewStore(pool)
	faults := &fault.Switches{}
	mail, err := mailbox.NewServer(c.SMTPAddr, mailbox.Login{User: c.SMTPUser, Password: c.SMTPPassword}, store, faults, log)
	if err != nil {
		pool.Close()
		return nil, err
	}
	server, err := service.NewServer(ctx, "sandbox", c.HTTPConfig, log, service.NewRegistry())
	if err != nil {
		_ = mail.Shutdown(ctx)
		pool.Close()
		return nil, err
	}
	return &App{c, log, faults, pool, store, server, mail}, nil
}

// Addr is the address of the public HTTP port.
func (a *App) Addr() string { return a.server.Addr() }

// AdminAddr is the address of the admin port; empty if there is none.
func (a *App) AdminAddr() string { return a.server.AdminAddr() }

// SMTPAddr is the address of the SMTP port.
func (a *App) SMTPAddr() string { return a.mail.Addr() }

// Run waits for the database, serves until ctx is done, and then stops in order.
func (a *App) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	served := make(chan error, 2)
	for _, serve := range []func() error{a.server.Serve, a.mail.Serve} {
		go func() {
			err := serve()
			if err != nil {
				fail(err)
			}
			served <- err
		}()
	}
	err := service.AwaitDatabase(ctx, a.pool, a.log, service.Migrations{VersionTable: "sandbox_version", Files: postgres.Migrations})
	if err == nil {
		secrets := httpapi.Secrets{ProviderKey: a.config.ProviderKey, Webhook: a.config.WebhookSecret}
		a.server.Start(httpapi.Routes(a.store, secrets, a.faults, a.log), service.Check{Name: "database", Func: a.pool.Ping})
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = nil // a stop during the start is not an error
	}
	return errors.Join(err, a.stop(), <-served, <-served)
}

// stop waits for captures with slow tokens.
func (a *App) stop() error {
	total := a.config.StopTimeout
	if total == 0 {
		total = service.DefaultStopTimeout
	}
	return service.Stop(total,
		service.Step{Name: "http", Func: a.server.Drain},
		service.Step{Name: "smtp", Keep: 2 * time.Second, Func: a.mail.Shutdown},
		service.Step{Name: "admin port", Keep: time.Second, Func: a.server.Close},
		service.Step{Name: "database", Keep: time.Second, Func: func(ctx context.Context) error { return service.Within(ctx, a.pool.Close) }},
	)
}
