package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// fault turns on a switch of the sandbox, or turns off all of them.
func (f *fixture) fault(t *testing.T, name, body string) {
	t.Helper()
	method, path := http.MethodPut, "/v1/faults/"+name
	if name == "" {
		method, path = http.MethodDelete, "/v1/faults"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.outside+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := f.http.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Less(t, res.StatusCode, 300)
}

func (f *fixture) isReady(t *testing.T, want bool) {
	t.Helper()
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		res, err := f.http.Get(f.url + "/readyz")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return (res.StatusCode == http.StatusOK) == want, res.Status
	})
}

// Whatever fault the receivers have, mails and webhooks wait. They would be parked after two
// failed attempts, 50 ms apart.
func TestNotificationsWait(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	for i, q := range topology.Queues {
		if slices.Contains([]string{contract.NotifierEmail.Name, contract.NotifierWebhook.Name}, q.Name) {
			topology.Queues[i].Retry = messaging.Retry{Limit: 1, MinDelay: 50 * time.Millisecond, MaxDelay: 50 * time.Millisecond}
		}
	}
	core, logs := observer.New(zap.WarnLevel)
	f := setupOn(t, topology, zap.New(core))
	for i, c := range []struct{ name, value, reason string }{
		{"mail.down", `{}`, "EOF"},
		{"mail.refuse", `{"value":"451"}`, "451"},
		{"mail.refuse", `{"value":"421"}`, "421"},
		{"webhook.down", `{}`, "EOF"},
		{"webhook.refuse", `{"value":"403"}`, "403"},
		{"webhook.refuse", `{"value":"301"}`, "301"},
		{"webhook.refuse", `{"value":"503","retry_after":"1"}`, "503"},
	} {
		t.Run(c.name+" "+c.value, func(t *testing.T) {
			f.isReady(t, true)
			logs.TakeAll()
			f.fault(t, c.name, c.value)
			var orders []string
			for n := range 3 {
				orders = append(orders, fmt.Sprintf("o-%d-%d", i, n))
				f.order(t, contract.OrderPaid, "paid", orders[n], contract.TierExpress, 1)
			}
			f.isReady(t, false)
			said := logs.FilterMessageSnippet("is away").All()
			require.NotEmpty(t, said)
			require.Contains(t, said[0].ContextMap()["error"], c.reason)
			f.fault(t, "", "")
			for _, order := range orders {
				f.outsideHas(t, order, 1, 1)
			}
			for _, q := range []messaging.Queue{contract.NotifierEmail, contract.NotifierWebhook} {
				require.Zero(t, f.broker.Depth(t, contract.DeadQueue(q.Name)))
			}
		})
	}
}
