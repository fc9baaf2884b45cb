package app_test

import (
	"fmt"
	"net/http"
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
	req, err := http.NewRequestWithContext(t.Context(), method, f.shop+path, strings.NewReader(body))
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

// Whatever fault the provider has, charges wait for it, and no attempt is counted. A failed
// attempt would be repeated after 50 ms here, so such a charge would soon be parked.
func TestChargesWaitForTheProvider(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	f := setupWith(t, with{timeout: time.Second, retry: 50 * time.Millisecond, log: zap.New(core)})
	for _, c := range []struct{ name, value, reason string }{
		{"provider.refuse", `{"value":"401"}`, "401 fault"},
		{"provider.refuse", `{"value":"503","retry_after":"2"}`, "503 fault"},
		{"provider.refuse", `{"value":"302"}`, "302 fault"},
		{"provider.down", `{}`, "EOF"},
		{"provider.slow", `{"value":"2s"}`, "no answer"},
		{"provider.accept-broken", `{}`, "does not repeat the request"},
	} {
		t.Run(c.name+" "+c.value, func(t *testing.T) {
			f.isReady(t, true)
			logs.TakeAll()
			f.fault(t, c.name, c.value)
			orders := map[string]bool{}
			for i := range 5 {
				order := fmt.Sprint("o-", c.reason, "-", i)
				orders[order] = true
				f.charge(t, command(t, contract.Charge, order, "tok_ok"))
			}
			f.isReady(t, false)
			said := logs.FilterMessageSnippet("is away").All()
			require.NotEmpty(t, said)
			require.Contains(t, said[0].ContextMap()["error"], c.reason)

			f.fault(t, "", "")
			for len(orders) > 0 {
				kind, event := f.nextEvent(t)
				require.Equal(t, contract.PaymentCaptured.Name, kind)
				require.Equal(t, 1, event.Attempts, "an outage does not count as an attempt")
				delete(orders, event.OrderID)
				require.Equal(t, 1, f.total(t, "captures", strings.ReplaceAll(event.OrderID, " ", "%20")))
			}
			require.Zero(t, f.broker.Depth(t, contract.DeadQueue(contract.BillingCharge.Name)))
		})
	}
}

// A charge with a token for which the provider never answers is parked at the limit, with the
// reason, and other charges do not wait for it.
func TestATokenThatNeverAnswersIsParked(t *testing.T) {
	t.Parallel()
	f := setupWith(t, with{timeout: 300 * time.Millisecond, retry: 50 * time.Millisecond})
	silent := command(t, contract.Charge, "o-silent", "tok_silent")
	f.charge(t, silent)
	dead := contract.DeadQueue(contract.BillingCharge.Name)
	paid := 0
	for started := time.Now(); f.broker.Depth(t, dead) == 0; paid++ {
		require.Less(t, time.Since(started), 2*time.Minute, "%d others were paid", paid)
		order := fmt.Sprint("o-", paid)
		f.charge(t, command(t, contract.Charge, order, "tok_ok"))
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		require.Equal(t, order, event.OrderID)
		require.Equal(t, 1, event.Attempts)
	}
	d := f.dead(t, contract.BillingCharge)
	require.Equal(t, silent.ID, d.MessageId)
	require.EqualValues(t, 21, d.Headers[messaging.HeaderDeadAttempts])
	require.Contains(t, d.Headers[messaging.HeaderDeadReason], "no answer")
	require.Positive(t, paid)
	f.isReady(t, true)
}
