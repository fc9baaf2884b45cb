// Package app wires the sandbox.
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
	// What the outside world wants to be shown; nothing where a setting is not given.
	ProviderKey   service.Secret `env:"PROVIDER_KEY_FILE"`
	SMTPUser      string         `env:"SMTP_USER"`
	SMTPPassword  service.Secret `env:"SMTP_PASSWORD_FILE"`
	WebhookSecret service.Secret `env:"WEBHOOK_SECRET_FILE"`
}

// Validate names the setting that is wrong.
func (c Config) Validate() error {
	if (c.SMTPUser == "") != (c.SMTPPassword == "") {
		return errors.New("SMTP_USER and SMTP_PASSWORD_FILE: give both, or neither")
	}
	return nil
}

// App is a running sandbox.
type App struct {
	pool   *pgxpool.Pool
	server *service.Server
	mail   *mailbox.Server
}

// New opens the ports and the database.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	pool, err := service.OpenDatabase(ctx, c.DatabaseConfig, log)
	if err != nil {
		return nil, err
	}
	if err := service.Migrate(ctx, pool, service.Migrations{VersionTable: "sandbox_version", Files: postgres.Migrations}); err != nil {
		pool.Close()
		return nil, err
	}
	store := postgres.NewStore(pool)
	faults := &fault.Switches{}
	mail, err := mailbox.Listen(c.SMTPAddr, mailbox.Login{User: c.SMTPUser, Password: c.SMTPPassword}, store, faults, log)
	if err != nil {
		pool.Close()
		return nil, err
	}
	server, err := service.Listen(c.Addr, httpapi.Routes(store, httpapi.Secrets{ProviderKey: c.ProviderKey, Webhook: c.WebhookSecret}, faults, log), service.NewRegistry(), service.Check{Name: "database", Func: pool.Ping})
	if err != nil {
		_ = mail.Shutdown(ctx)
		pool.Close()
		return nil, err
	}
	return &App{pool: pool, server: server, mail: mail}, nil
}

// Addr is where HTTP is answered, and SMTPAddr where mail is taken.
func (a *App) Addr() string { return a.server.Addr() }

// SMTPAddr is where mail is taken.
func (a *App) SMTPAddr() string { return a.mail.Addr() }

// Run serves until ctx is done, and then stops in order.
func (a *App) Run(ctx context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- a.server.Serve() }()
	go func() { failed <- a.mail.Serve() }()
	var err error
	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	stopErr := service.Stop(35*time.Second, // a slow token's capture ends before
		service.Step{Name: "http", Func: a.server.Shutdown},
		service.Step{Name: "smtp", Func: a.mail.Shutdown},
		service.Step{Name: "database", Func: func(context.Context) error { a.pool.Close(); return nil }},
	)
	for range running {
		if e := <-failed; err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	return stopErr
}
