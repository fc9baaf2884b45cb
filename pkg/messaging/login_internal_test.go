package messaging

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

func TestCredentialsAreRenewedInTime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for left, want := range map[time.Duration]time.Duration{
		time.Hour: 48 * time.Minute, 10 * time.Second: 8 * time.Second, time.Second: time.Second, -time.Hour: time.Second,
	} {
		require.Equal(t, want, Credentials{Expires: now.Add(left)}.renewIn(now), left)
	}
}

func TestLoginMechanisms(t *testing.T) {
	t.Parallel()
	capabilities := amqp.Table{}
	properties := amqp.Table{"capabilities": capabilities}
	c := Credentials{User: "u", Password: "p"}
	password := newLogin(Config{}, c, properties)
	require.Equal(t, "PLAIN", password.Mechanism())
	require.Equal(t, "\x00u\x00p", password.Response())
	require.Equal(t, true, capabilities["authentication_failure_close"])
	certificate := newLogin(Config{ByCertificate: true}, c, properties)
	require.Equal(t, "EXTERNAL", certificate.Mechanism())
	require.Empty(t, certificate.Response())
}
