package cli_test

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/tools/orderctl/internal/cli"
	"example.com/orderflow/tools/orderctl/setup"
)

// Not parallel: the environment is the process's.
func TestTopologyOfARegion(t *testing.T) {
	b := messagingtest.Broker(t)
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
	for _, c := range []struct{ name, region, upstreams, command, out, err string }{
		{"no region", "", "", "apply", "applied", ""},
		{"as applied", "", "", "verify", "the broker is as the contract says", ""},
		// The broker has no plugin, and so no region's topology: that one was asked for shows.
		{"compared with a region", "us", "", "verify", `exchange "orders.events": federation-upstream-set: want "all", have nothing`, "differs"},
		{"the notifier of a region", "us", "", "verify", `binding "orders.events -> notifier.orders key order.paid.us.#": want declared, have missing`, "differs"},
		{"no plugin", "us", "", "apply", "", "exchange:orders.events"},
		{"a region without a broker", "apac", "", "apply", "", "REGION"},
		{"a bad upstream", "us", "amqp://host", "apply", "", "Upstreams"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range map[string]string{"AMQP_URLS": u.String(), "MANAGEMENT_URL": b.ManagementURL, "REGION": c.region, "UPSTREAMS": c.upstreams} {
				t.Setenv(name, value)
			}
			var out bytes.Buffer
			root := cli.Root()
			root.SetArgs([]string{"topology", c.command, "--services-dir", dirs.Services, "--rabbitmq-dir", dirs.RabbitMQ, "--postgres-dir", dirs.PostgreSQL})
			root.SetOut(&out)
			err := root.ExecuteContext(t.Context())
			require.Contains(t, out.String(), c.out)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}
