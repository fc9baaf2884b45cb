package stack

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// All published ports of the compose files differ, and those of replicas are consecutive.
func TestPorts(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Replicas: 3})
	require.NoError(t, err)
	names := map[string]string{} // by port
	for name, ports := range s.Ports() {
		require.Empty(t, names[ports], name)
		names[ports] = name
	}
	for _, name := range []string{"AMQP_PORT", "THIRD_MANAGEMENT_PORT", "AMQPS_PORT", "US_ORDERS_PORT", "POSTGRES_PORT", proxyPort} {
		require.Regexp(t, `^\d+$`, s.Ports()[name], name)
		require.Equal(t, "127.0.0.1:"+s.Ports()[name], s.Address(name))
	}
	first := firstPort(s.Ports()["ORDERS_PORT"])
	require.Equal(t, fmt.Sprintf("%d-%d", first, first+2), s.Ports()["ORDERS_PORT"])
	require.Equal(t, fmt.Sprintf("127.0.0.1:%d", first), s.Address("ORDERS_PORT"))
	urls := map[string]bool{}
	for range 100 {
		urls[s.Orders()] = true
	}
	require.Len(t, urls, 3)
	require.Equal(t, []int{3, 1}, []int{s.Replicas("billing"), s.Replicas("sandbox")})
}

func TestTheEnvironmentOfScripts(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Name: "environment", Settings: map[string]string{"PAYMENT_DEADLINE": "30s"}})
	require.NoError(t, err)
	out, err := s.Script(t.Context(), `echo "$COMPOSE_PROJECT_NAME $PAYMENT_DEADLINE $AMQP_PORT"; ls go.work`)
	require.NoError(t, err)
	require.Equal(t, s.Project+" 30s "+s.Ports()["AMQP_PORT"]+"\ngo.work\n", out)
	require.Contains(t, s.Project, "orderflow-test-environment-")
	out, err = s.Script(t.Context(), "echo why; exit 3")
	require.ErrorContains(t, err, "exit status 3: why")
	require.Equal(t, "why\n", out)
}

func TestPoll(t *testing.T) {
	t.Parallel()
	tries, why := 0, errors.New("not yet")
	require.NoError(t, Poll(t.Context(), time.Minute, func() error {
		if tries++; tries < 2 {
			return why
		}
		return nil
	}))
	err := Poll(t.Context(), time.Millisecond, func() error { return why })
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
