package notify_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/services/notifier/internal/notify"
)

func TestNewEmail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, addr, from, want string }{
		{"right", "mail:2525", "shop@example.com", ""},
		{"no port", "mail", "shop@example.com", "SMTP_ADDR"},
		{"port is no number", "mail:smtp", "shop@example.com", "SMTP_ADDR"},
		{"sender is no address", "mail:2525", "shop", "MAIL_FROM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := notify.NewEmail(c.addr, c.from, true)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// The way over a mail server is in app/app_test.go.
func TestEmailThatIsNotSent(t *testing.T) {
	t.Parallel()
	email, err := notify.NewEmail("127.0.0.1:1", "shop@example.com", false) // nobody listens
	require.NoError(t, err)
	require.ErrorIs(t, email.Send(t.Context(), "not an address", "s", "b", "k"), notify.ErrBadAddress)
	require.ErrorIs(t, email.Send(t.Context(), "eve@example.com\r\nBcc: all@example.com", "s", "b", "k"), notify.ErrBadAddress)
	err = email.Send(t.Context(), "ada@example.com", "s", "b", "k")
	require.ErrorContains(t, err, "send a mail")
	require.NotErrorIs(t, err, notify.ErrBadAddress, "worth another try")
}
