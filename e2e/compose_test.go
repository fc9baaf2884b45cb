package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/machine"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// composed is the system that the compose file starts.
type composed struct{ *stack.Stack }

// newStack makes a stack that is not started, to run its scripts.
func newStack(t *testing.T, options stack.Options) *composed {
	t.Helper()
	s, err := stack.New(options)
	require.NoError(t, err)
	return &composed{s}
}

// script runs a shell command in the repository's root.
func (c *composed) script(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	out, err := c.Script(ctx, command)
	require.NoError(t, err, out)
	return out
}

func (c *composed) compose(t *testing.T, arguments string) string {
	t.Helper()
	return c.script(t, "source scripts/lib.sh; compose "+arguments)
}

// newComposed starts the system as `make up WITH=...` does. The test cannot be parallel: the
// system needs the whole machine.
func newComposed(t *testing.T, with string) (*composed, *system) {
	t.Helper()
	unlock, err := machine.Lock(t.Context())
	require.NoError(t, err)
	t.Cleanup(unlock)
	c := newStack(t, stack.Options{Name: with, With: with})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.compose(t, "logs --tail 30"))
		}
		require.NoError(t, c.Stop(context.Background()))
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	require.NoError(t, c.Start(ctx))
	return c, &system{t: t, http: c.HTTP, orders: []*process{{URL: c.Orders()}}}
}

// TestTheComposeFile tests the system that `make up` starts.
func TestTheComposeFile(t *testing.T) {
	c, s := newComposed(t, "")
	t.Run("an order is paid within 2 s", func(t *testing.T) {
		o := s.place("ada", contract.TierExpress, "tok_ok")
		o = s.becomes(o.ID, "paid")
		require.Less(t, o.History[1].At.Sub(o.History[0].At), 2*time.Second)
		var captures struct {
			Total int `json:"total"`
		}
		s.getJSON("http://"+c.Address("SANDBOX_PORT")+"/v1/captures?order_id="+o.ID, &captures)
		require.Equal(t, 1, captures.Total)
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			_, mails := s.get("http://" + c.Address("SANDBOX_PORT") + "/v1/mails?to=ada@example.com")
			return strings.Contains(mails, "Receipt for order "+o.ID), mails
		})
	})
	t.Run("every service is healthy, and the set-up containers have succeeded", c.checkHealth)
	t.Run("the servers work again after they were killed", func(t *testing.T) {
		for _, server := range []string{"postgres", "rabbitmq"} {
			name := c.Container(server, 1)
			c.script(t, "docker kill -s KILL "+name+" && docker start "+name)
		}
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			status, _, answer, err := s.try(s.orders[0].URL, "after the kill", orderBody("bob", contract.TierStandard, "tok_ok", "mug"))
			return err == nil && (status == http.StatusCreated || status == http.StatusOK), fmt.Sprint(status, err, string(answer))
		})
	})
	t.Run("the broker is as the contract says", func(t *testing.T) {
		require.Contains(t, c.compose(t, "run --rm --no-deps topology topology verify"), "the broker is as the contract says")
	})
	t.Run("the broker waits 10 s before it sends a dead letter again", func(t *testing.T) {
		got := c.compose(t, "exec -T rabbitmq rabbitmqctl -q eval 'application:get_env(rabbit, dead_letter_worker_publisher_confirm_timeout).'")
		require.Equal(t, "{ok,10000}", strings.TrimSpace(got))
	})
	t.Run("no container has more rights than it needs", c.checkConfinement)
	t.Run("an image has one program", c.checkImages)
	secrets := c.secrets(t)
	t.Run("every account has its own database, broker and secrets", func(t *testing.T) { c.checkAccounts(t, secrets) })
	t.Run("the role ledger reads every table and writes none", func(t *testing.T) { c.checkLedger(t, secrets) })
	t.Run("no secret is where others can read it", func(t *testing.T) { c.checkSecrets(t, secrets) })
	t.Run("services use little memory while 100,000 messages wait", func(t *testing.T) { c.checkMemory(t, secrets) })
}

func (c *composed) checkHealth(t *testing.T) {
	for _, box := range c.containers(t) {
		if box.State.Health == nil {
			require.Equal(t, "exited", box.State.Status, box.Name)
			require.Zero(t, box.State.ExitCode, box.Name)
		} else {
			require.Equal(t, "healthy", box.State.Health.Status, box.Name)
		}
	}
}
