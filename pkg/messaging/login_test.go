package messaging_test

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A token that expires is renewed on the open connections: nothing is lost and no consumer
// subscribes again. If it is not renewed the connection is lost, and the next one gets a new
// token.
func TestTokensAreRenewed(t *testing.T) {
	t.Parallel()
	b := messagingtest.OAuthBroker(t)
	const user, good = "orders", 6 * time.Second
	setup := b.Connect(t, b.Config())
	for name, renewed := range map[string]bool{"renewed": true, "not renewed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			jobs, topology := messaging.WorkQueue("jobs "+name, messaging.Retry{})
			require.NoError(t, setup.Declare(within(t, time.Minute), topology))
			var asked, subscribed atomic.Int32
			config := b.Config()
			config.User = user
			config.Credentials = func(context.Context) (messaging.Credentials, error) {
				asked.Add(1)
				expires := time.Now().Add(good)
				token, err := b.Token(user, expires)
				if !renewed {
					expires = time.Time{}
				}
				return messaging.Credentials{Password: token, Expires: expires}, err
			}
			began := time.Now()
			conn := b.Connect(t, config)
			users := make(chan string, 100)
			_, err := conn.Consume(jobs, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				users <- d.UserID
				return nil
			}), messaging.OnSubscribe(func() { subscribed.Add(1) }))
			require.NoError(t, err)
			publishTo(t, conn, jobs.Name, "x")
			require.Equal(t, user, next(t, users))
			want := int32(6) // two connections, each renewed twice
			messagingtest.Eventually(t, time.Minute, func() (bool, string) {
				over := time.Since(began) > 2*good
				if renewed {
					return over && asked.Load() >= want, "not renewed yet"
				}
				return over && subscribed.Load() > 1, "still subscribed with the first token"
			})
			if renewed {
				publishTo(t, conn, jobs.Name, "x")
				require.Equal(t, user, next(t, users))
				require.EqualValues(t, 1, subscribed.Load())
			}
		})
	}
}

// Credentials is called until it gives credentials, and again for each connection. An error or
// a panic of it is a failed attempt.
func TestCredentialsAsAFunction(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	config := b.Config()
	var asked atomic.Int32
	var unbounded atomic.Bool
	config.Credentials = func(ctx context.Context) (messaging.Credentials, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			unbounded.Store(true)
		}
		switch asked.Add(1) {
		case 1:
			return messaging.Credentials{}, errors.New("the vault is sealed")
		case 2:
			panic("the vault is broken")
		default:
			return messaging.Credentials{User: b.User, Password: b.Password}, nil
		}
	}
	conn := b.Connect(t, config)
	queue := declare(t, raw(t, b), "jobs", 20)
	users := make(chan string, 10)
	kind := messaging.MessageType{Name: "work.v1", Owner: messaging.AnyOwner}
	mux := messaging.NewMux("")
	mux.Handle(kind, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		users <- d.UserID
		return nil
	}))
	_, err := conn.Consume(queue, mux.Handler())
	require.NoError(t, err)
	publishTo(t, conn, "jobs", "x")
	require.Empty(t, next(t, users), "who logs in may be somebody else each time")
	require.False(t, unbounded.Load(), "the context has a deadline")
	require.GreaterOrEqual(t, asked.Load(), int32(4))

	config.Credentials = func(context.Context) (messaging.Credentials, error) {
		return messaging.Credentials{User: b.User, Password: "wrong"}, nil
	}
	_, err = messaging.Connect(within(t, 30*time.Second), config)
	require.ErrorContains(t, err, "ACCESS_REFUSED")
	require.NotContains(t, err.Error(), "wrong")
	config.Credentials = func(context.Context) (messaging.Credentials, error) {
		return messaging.Credentials{}, errors.New("the vault is sealed")
	}
	_, err = messaging.Connect(within(t, 2*time.Second), config)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "Credentials: the vault is sealed")
}

// With a certificate no password is needed, and the broker says who it is.
func loginByCertificate(t *testing.T, b *messagingtest.BrokerInfo, url string, trusting func() *tls.Config) {
	t.Helper()
	const user = "client" // the certificate's common name
	b.Management(t, "PUT", "/api/users/"+user, map[string]any{"password_hash": "", "tags": ""}, nil)
	b.Management(t, "PUT", "/api/permissions/%2F/"+user, map[string]any{"configure": ".*", "write": ".*", "read": ".*"}, nil)
	config := messaging.Config{URLs: []string{url}, TLS: trusting(), ByCertificate: true, User: user}
	conn := b.Connect(t, config)
	jobs, topology := messaging.WorkQueue("by certificate", messaging.Retry{})
	require.NoError(t, conn.Declare(within(t, time.Minute), topology))
	users := make(chan string, 1)
	_, err := conn.Consume(jobs, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		users <- d.UserID
		return nil
	}))
	require.NoError(t, err)
	publishTo(t, conn, jobs.Name, "x")
	require.Equal(t, user, next(t, users))
	config.User = ""
	publishTo(t, b.Connect(t, config), jobs.Name, "x")
	require.Empty(t, next(t, users), "not known, and not said")

	config.User = "somebody"
	other := b.Connect(t, config)
	err = publisher(t, other).Publish(within(t, 20*time.Second), messaging.Route{Key: jobs.Name}, message(t, "x"))
	require.ErrorIs(t, err, messaging.ErrRefused, "the broker knows better")
}
