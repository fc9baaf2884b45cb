package app_test

import (
	"context"
	"net/http"
	"net/smtp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/app"
)

func setup(t *testing.T) app.Config {
	t.Helper()
	return app.Config{
		HTTPConfig:     service.HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"},
		DatabaseConfig: service.DatabaseConfig{URL: messagingtest.Database(t)},
		SMTPAddr:       "127.0.0.1:0",
	}
}

func TestRunAndStop(t *testing.T) {
	t.Parallel()
	a, err := app.New(t.Context(), setup(t), zap.NewNop())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		res, err := http.Get("http://" + a.Addr() + "/readyz")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode == http.StatusOK, res.Status
	})
	require.NoError(t, smtp.SendMail(a.SMTPAddr(), nil, "shop@example.com", []string{"ada@example.com"}, []byte("Subject: hello\r\n\r\n")))

	stop()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "does not stop")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, app.Config{}.Validate())
	require.NoError(t, app.Config{SMTPUser: "shop", SMTPPassword: "s3cret"}.Validate())
	for _, half := range []app.Config{{SMTPUser: "shop"}, {SMTPPassword: "s3cret"}} {
		require.ErrorContains(t, half.Validate(), "SMTP_USER and SMTP_PASSWORD_FILE")
	}
}

// A sandbox that must stop while it waits for its database stops without an error.
func TestStopDuringTheStart(t *testing.T) {
	t.Parallel()
	config := setup(t)
	config.URL = "postgres://127.0.0.1:1/nothing"
	a, err := app.New(t.Context(), config, zap.NewNop())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	res, err := http.Get("http://" + a.Addr() + "/healthz")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode, "healthy while it waits")
	stop()
	require.NoError(t, <-done)
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mutate func(*app.Config)
	}{
		{"HTTP_ADDR", func(c *app.Config) { c.Addr = "127.0.0.1:nonsense" }},
		{"SMTP_LISTEN_ADDR", func(c *app.Config) { c.SMTPAddr = "127.0.0.1:nonsense" }},
		{"DATABASE_URL", func(c *app.Config) { c.URL = "postgres://127.0.0.1:nonsense/" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := setup(t)
			c.mutate(&config)
			_, err := app.New(t.Context(), config, zap.NewNop())
			require.ErrorContains(t, err, c.name)
		})
	}
}
