package cli_test

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/tools/orderctl/internal/cli"
	"example.com/orderflow/tools/orderctl/setup"
)

// orderctl runs a command of the group topology on a broker. Tests that use it cannot be
// parallel, since it sets the environment.
func orderctl(t *testing.T, b *messagingtest.BrokerInfo) func(t *testing.T, command string, environment ...string) (out, talk string, err error) {
	t.Helper()
	u, err := url.Parse(b.URL)
	require.NoError(t, err)
	u.User = nil
	dir := t.TempDir()
	dirs := setup.Dirs{Services: filepath.Join(dir, "services"), RabbitMQ: filepath.Join(dir, "rabbitmq"), PostgreSQL: filepath.Join(dir, "postgres")}
	_, err = setup.Secrets(dirs)
	require.NoError(t, err)
	admin := filepath.Join(dirs.RabbitMQ, "10-admin.conf")
	require.NoError(t, os.Remove(admin))
	require.NoError(t, os.WriteFile(admin, []byte("default_user = "+b.User+"\ndefault_pass = "+b.Password+"\n"), 0o400))
	return func(t *testing.T, command string, environment ...string) (string, string, error) {
		t.Helper()
		environment = append([]string{"AMQP_URLS", u.String(), "MANAGEMENT_URL", b.ManagementURL}, environment...)
		for i := 0; i < len(environment); i += 2 {
			t.Setenv(environment[i], environment[i+1])
		}
		var out, talk bytes.Buffer
		root := cli.Root()
		root.SetArgs([]string{"topology", command, "--services-dir", dirs.Services, "--rabbitmq-dir", dirs.RabbitMQ, "--postgres-dir", dirs.PostgreSQL})
		root.SetOut(&out)
		root.SetErr(&talk)
		err := root.ExecuteContext(t.Context())
		return out.String(), talk.String(), err
	}
}

func TestTopologyOfARegion(t *testing.T) {
	topology := orderctl(t, messagingtest.Broker(t))
	for _, c := range []struct{ name, region, upstreams, command, out, err string }{
		{"no region", "", "", "apply", "applied", ""},
		{"as applied", "", "", "verify", "the broker is as the contract says", ""},
		// This broker has no federation plugin, so the error shows that a region was requested.
		{"compared with a region", "us", "", "verify", `exchange "orders.events": federation-upstream-set: want "all", have nothing`, "differs"},
		{"the notifier of a region", "us", "", "verify", `binding "orders.events -> notifier.orders key order.paid.us.#": want declared, have missing`, "differs"},
		{"no plugin", "us", "", "apply", "", "exchange:orders.events"},
		{"a region without a broker", "apac", "", "apply", "", "REGION"},
		{"a bad upstream", "us", "amqp://host", "apply", "", "Upstreams"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _, err := topology(t, c.command, "REGION", c.region, "UPSTREAMS", c.upstreams)
			require.Contains(t, out, c.out)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}

// After the deadline becomes shorter, new messages wait behind those with the longer one, and
// apply warns of it.
func TestAShorterDeadlineWaitsBehindTheLongerOnes(t *testing.T) {
	b := messagingtest.Broker(t)
	topology := orderctl(t, b)
	apply := func(deadline string) string {
		t.Helper()
		_, talk, err := topology(t, "apply", "PAYMENT_DEADLINE", deadline)
		require.NoError(t, err)
		return talk
	}
	require.Empty(t, apply("15m"), "an empty broker")
	require.Empty(t, apply("1m"), "no message waits")

	queue := contract.OrdersPaymentDeadline(0).Name
	orders, err := b.Connect(t, b.Config()).Publisher()
	require.NoError(t, err)
	place := func(n int) {
		t.Helper()
		for range n {
			m, err := messaging.NewMessage(contract.PaymentDeadline, contract.PaymentDeadlineBody{OrderID: uuid.NewString()})
			require.NoError(t, err)
			require.NoError(t, orders.Publish(t.Context(), contract.PaymentDeadlineRoute, m))
		}
	}
	place(3)
	require.Empty(t, apply("1m"), "no change")
	require.Empty(t, apply("15m"), "a longer one")
	place(1)

	before := time.Now()
	talk := apply("1s")
	require.Contains(t, talk, "warning: "+queue+": 4 messages wait with the 15m0s that they came with")
	require.Contains(t, talk, "those that come from now on, with 1s, wait behind them")
	said := regexp.MustCompile(`until (\S+Z) at the latest`).FindStringSubmatch(talk)
	require.Len(t, said, 2, talk)
	until, err := time.Parse(time.RFC3339, said[1])
	require.NoError(t, err)
	require.WithinDuration(t, before.Add(15*time.Minute), until, time.Minute)
	require.Equal(t, 1, strings.Count(talk, "\n"), "one line")
	require.Empty(t, apply("1s"), "only one warning")

	// As the warning says, the new message with 1 s stays behind the old ones.
	place(1)
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		return b.Depth(t, queue) == 5, "not in the queue yet"
	})
	<-time.After(3 * time.Second) // three times its own time to live
	require.Equal(t, 5, b.Depth(t, queue))
	require.Zero(t, b.Depth(t, contract.OrdersExpire.Name))
}
