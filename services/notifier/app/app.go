// Package app connects the parts of notifier.
package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/internal/messages"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

// handlerTimeout is for a mail or a webhook, which may take 10 s, and a few database
// statements.
const handlerTimeout = 20 * time.Second

// Config is what notifier reads from the environment.
type Config struct {
	service.HTTPConfig
	service.DatabaseConfig
	service.BrokerConfig
	SMTPAddr     string `env:"SMTP_ADDR,required,notEmpty"`
	SMTPStartTLS bool   `env:"SMTP_STARTTLS"`
	// SMTPUser and SMTPPassword are the login at the mail server, if it requires one.
	SMTPUser     string         `env:"SMTP_USER"`
	SMTPPassword service.Secret `env:"SMTP_PASSWORD_FILE"`
	MailFrom     string         `env:"MAIL_FROM" envDefault:"shop@example.com"`
	WebhookURL   string         `env:"WEBHOOK_URL,required,notEmpty"`
	// WebhookSecret is the secret that signs webhooks, see [notify.Webhook.Send].
	WebhookSecret service.Secret `env:"WEBHOOK_SECRET_FILE"`
	Concurrency   int            `env:"CONCURRENCY" envDefault:"4"`
}

// Validate checks the settings. The error names the wrong one.
func (c Config) Validate() error {
	if c.Concurrency < 1 {
		return errors.New("CONCURRENCY: must be at least 1")
	}
	return c.CheckStop(handlerTimeout)
}

// App is an instance of notifier.
type App struct {
	*service.Core
	config  Config
	email   *notify.Email
	webhook *notify.Webhook
}

// New checks the settings and opens the ports.
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
	core, err := service.New(ctx, contract.NotifierUser, c.HTTPConfig, c.DatabaseConfig, c.BrokerConfig, log,
		service.Migrations{VersionTable: "notifier_version", Files: postgres.Migrations})
	if err != nil {
		return nil, err
	}
	return &App{Core: core, config: c, email: email, webhook: notify.NewWebhook(receiver, c.WebhookSecret)}, nil
}

// wire makes the consumers. Notifier has no routes.
func (a *App) wire() (*http.ServeMux, error) {
	store := postgres.NewStore(a.DB)
	a.Prune("sent", func(ctx context.Context) (int64, error) { return store.PruneSent(ctx, service.SentRetention) })
	handlers := &messages.Handlers{
		Store: store, Email: a.email, Webhook: a.webhook, Log: a.Log,
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
		err := a.Consume(consumer.queue, consumer.handler, messaging.HandlerTimeout(handlerTimeout), messaging.Concurrency(a.config.Concurrency))
		if err != nil {
			return nil, err
		}
	}
	return http.NewServeMux(), nil
}

// Run works until ctx is done, and then stops in order, see [service.Core.Run].
func (a *App) Run(ctx context.Context) error {
	defer a.webhook.Close()
	return a.Core.Run(ctx, a.wire)
}
