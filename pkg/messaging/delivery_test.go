package messaging_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

func TestApplicationHeaders(t *testing.T) {
	t.Parallel()
	headers := map[string]any{
		"tenant": "a", "x-trace": "b", "CC": []any{"c"},
		"x-delivery-count": int64(1), "x-death": []any{}, "x-first-death-queue": "q", "x-opt-rabbitmq-received-time": int64(1),
	}
	d := messaging.Delivery{Message: messaging.Message{Headers: headers}}
	require.Equal(t, map[string]any{"tenant": "a", "x-trace": "b", "CC": []any{"c"}}, d.ApplicationHeaders())
	require.Len(t, headers, 7)
	require.Empty(t, (&messaging.Delivery{}).ApplicationHeaders())
}
