package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The real compose file, brought up as `make up` does, under a project name and
// ports of its own. Not parallel: it wants the machine for itself.
func TestTheComposeFile(t *testing.T) {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	// scripts/test.sh removes the projects of processes that are gone.
	project := fmt.Sprintf("orderflow-test-%d", os.Getpid())
	ports := freePorts(t, "AMQP_PORT", "MANAGEMENT_PORT", "BROKER_METRICS_PORT", "POSTGRES_PORT", "ORDERS_PORT", "PRICING_PORT", "SANDBOX_PORT", "SMTP_PORT")
	script := func(t *testing.T, command string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+project)
		for name, port := range ports {
			cmd.Env = append(cmd.Env, name+"="+port)
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
		return string(out)
	}
	compose := func(t *testing.T, arguments string) string {
		t.Helper()
		return script(t, "source scripts/lib.sh; compose "+arguments)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(compose(t, "logs --tail 30"))
		}
		script(t, "source scripts/lib.sh; remove_project "+project) // not the base images, which others use
	})
	script(t, "scripts/up.sh")
	customers := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(customers.CloseIdleConnections)
	s := &system{t: t, http: customers, orders: []*process{{URL: "http://127.0.0.1:" + ports["ORDERS_PORT"]}}}

	t.Run("an order is paid within 2 s", func(t *testing.T) {
		o := s.place("ada", contract.TierExpress, "tok_ok")
		o = s.becomes(o.ID, "paid")
		require.Less(t, o.History[1].At.Sub(o.History[0].At), 2*time.Second)
		var captures struct {
			Total int `json:"total"`
		}
		s.getJSON("http://127.0.0.1:"+ports["SANDBOX_PORT"]+"/v1/captures?order_id="+o.ID, &captures)
		require.Equal(t, 1, captures.Total)
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			_, mails := s.get("http://127.0.0.1:" + ports["SANDBOX_PORT"] + "/v1/mails?to=ada@example.com")
			return strings.Contains(mails, "Receipt for order "+o.ID), mails
		})
	})
	t.Run("what runs is healthy, what runs once has ended well, and none may more than it must", func(t *testing.T) {
		for _, id := range strings.Fields(compose(t, "ps --all --quiet")) {
			var c struct {
				Name  string
				State struct {
					Status   string
					ExitCode int
					Health   *struct{ Status string }
				}
				Config     struct{ User string }
				HostConfig struct {
					ReadonlyRootfs bool
					CapDrop        []string
				}
			}
			out := script(t, "docker inspect --format '{{json .}}' "+id)
			require.NoError(t, json.Unmarshal([]byte(out), &c))
			if c.State.Health == nil {
				require.Equal(t, "exited", c.State.Status, c.Name)
				require.Zero(t, c.State.ExitCode, c.Name)
			} else {
				require.Equal(t, "healthy", c.State.Health.Status, c.Name)
			}
			if !strings.Contains(c.Name, "rabbitmq") && !strings.Contains(c.Name, "postgres") {
				require.True(t, c.HostConfig.ReadonlyRootfs, c.Name)
				require.Equal(t, []string{"ALL"}, c.HostConfig.CapDrop, c.Name)
				require.Equal(t, c.State.Health != nil, strings.HasPrefix(c.Config.User, "1000"), "%s runs as %q", c.Name, c.Config.User)
			}
			require.NotContains(t, strings.ToLower(out), "default_pass", "no secret in the container's settings")
		}
	})
	t.Run("the broker is as the contract says", func(t *testing.T) {
		require.Contains(t, compose(t, "run --rm --no-deps topology topology verify"), "the broker is as the contract says")
	})
}

// freePorts finds ports that nobody listens on, and holds all until it has all.
func freePorts(t *testing.T, names ...string) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		_, ports[name], err = net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
	}
	return ports
}
