// Package app wires notifier.
package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/internal/events"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

// Config is what notifier reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	SMTPAddr     string `env:"SMTP_ADDR,required,notEmpty"`
	SMTPStartTLS bool   `env:"SMTP_STARTTLS"`
	// SMTPUser and SMTPPassword log in at the mail server, if it wants that.
	SMTPUser     string         `env:"SMTP_USER"`
	SMTPPassword service.Secret `env:"SMTP_PASSWORD_FILE"`
	MailFrom     string         `env:"MAIL_FROM" envDefault:"shop@example.com"`
	WebhookURL   string         `env:"WEBHOOK_URL,required,notEmpty"`
	// WebhookSecret signs webhooks, see [notify.Webhook.Send].
	WebhookSecret service.Secret `env:"WEBHOOK_SECRET_FILE"`
	Concurrency   int            `env:"CONCURRENCY" envDefault:"4"`
}

// Validate names the setting that is wrong.
func (c Config) Validate() error {
	if c.Concurrency < 1 {
		return errors.New("CONCURRENCY: must be at least 1")
	}
	return nil
}

// App is a running notifier.
type App struct {
	*service.Core
	webhook *notify.Webhook
}

// New opens the database, the broker and the port, and starts to consume.
func New(ctx context.Context, c Config, log *zap.Logger) (*App, error) {
	email, err := notify.NewEmail(notify.SMTP{
		Addr: c.SMTPAddr, StartTLS: c.SMTPStartTLS, User: c.SMTPUser, Password: c.SMTPPassword, From: c.MailFrom,
	})
	if err != nil {
		return nil, err
	}
	receiver, err := service.OutsideURL(c.WebhookURL)
	if err != nil {
		return nil, fmt.Errorf("WEBHOOK_URL: %w", err)
	}
	core, err := service.Open(ctx, contract.NotifierUser, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "notifier_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	a := &App{Core: core, webhook: notify.NewWebhook(receiver, c.WebhookSecret)}
	if err := a.start(c, email); err != nil {
		core.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) start(c Config, email *notify.Email) error {
	store := postgres.NewStore(a.Pool)
	a.Prune("sent", func(ctx context.Context) (int64, error) { return store.PruneSent(ctx, service.SentRetention) })
	handlers := &events.Handlers{
		Store: store, Email: email, Webhook: a.webhook, Wake: a.Relay.Wake, Log: a.Log,
	}
	for _, consumer := range []struct {
		queue   messaging.Queue
		handler messaging.Handler
	}{
		{contract.NotifierOrders, handlers.Decide()},
		{contract.NotifierReceipts, handlers.Decide()},
		{contract.NotifierEmail, handlers.SendEmail()},
		{contract.NotifierWebhook, handlers.SendWebhook()},
	} {
		if err := a.Consume(consumer.queue, consumer.handler, messaging.Concurrency(c.Concurrency)); err != nil {
			return err
		}
	}
	return a.Listen(c.Addr, http.NewServeMux())
}

// Run works until ctx is done, and then stops in order.
func (a *App) Run(ctx context.Context) error {
	defer a.webhook.Close()
	return a.Core.Run(ctx)
}
