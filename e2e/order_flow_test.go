package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestOneOrdersPath(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startAll()

	t.Run("paid, express: captured once, with mail, receipt and webhook", func(t *testing.T) {
		o := s.place("ada", contract.TierExpress, "tok_ok")
		require.EqualValues(t, 2580, o.Total.AmountMinor)
		o = s.becomes(o.ID, "paid")
		require.Equal(t, []string{"placed", "paid"}, o.path())
		require.Len(t, s.captures(o.ID), 1)
		require.Equal(t, o.Total, s.captures(o.ID)[0].Amount)
		s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID}, func() []string { return s.subjects("ada") })
		// The binding with x-match "any" routes all urgent notifications to the webhook too.
		s.eventuallySame([]string{"order-placed", "order-paid"}, func() []string { return s.webhooks(o.ID) })
	})
	t.Run("paid, standard: no webhook", func(t *testing.T) {
		o := s.place("grace", contract.TierStandard, "tok_ok")
		s.becomes(o.ID, "paid")
		s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID}, func() []string { return s.subjects("grace") })
		require.Empty(t, s.webhooks(o.ID))
	})
	t.Run("declined", func(t *testing.T) {
		o := s.place("bob", contract.TierStandard, "tok_declined")
		o = s.becomes(o.ID, "declined")
		require.NotEmpty(t, o.History[1].Reason)
		require.Empty(t, s.captures(o.ID))
		s.eventuallySame([]string{"Order " + o.ID + " was declined"}, func() []string { return s.subjects("bob") })
		require.Equal(t, http.StatusConflict, s.cancel(o.ID))
	})
	t.Run("flaky: tried again after the broker's delay, captured once", func(t *testing.T) {
		o := s.place("eve", contract.TierStandard, "tok_flaky_2")
		o = s.becomes(o.ID, "paid")
		require.Len(t, s.captures(o.ID), 1)
		waited := o.History[1].At.Sub(o.History[0].At)
		require.GreaterOrEqual(t, waited, 3*time.Second, "1 s before the second attempt, 2 s before the third")
		var attempts []int64
		for _, e := range s.logs.FilterMessage("message rejected").All() {
			if e.ContextMap()["correlation_id"] == o.ID {
				attempts = append(attempts, e.ContextMap()["attempt"].(int64))
			}
		}
		require.Equal(t, []int64{1, 2}, attempts)
	})
	t.Run("broken: parked with its reason, and the order waits", func(t *testing.T) {
		o := s.place("mallory", contract.TierStandard, "tok_broken")
		dead := s.takeOne(s.raw(), contract.DeadQueue(contract.BillingCharge.Name))
		require.Equal(t, o.ID, dead.CorrelationId)
		require.NotEmpty(t, dead.Headers[messaging.HeaderDeadReason])
		require.EqualValues(t, 1, dead.Headers[messaging.HeaderDeadAttempts])
		require.Equal(t, contract.OrdersUser, dead.Headers[messaging.HeaderDeadUser])
		require.Equal(t, []string{"placed"}, s.becomes(o.ID, "placed").path())
		require.Empty(t, s.captures(o.ID))
	})
	t.Run("a paid order that is cancelled is refunded, once", func(t *testing.T) {
		o := s.place("carol", contract.TierExpress, "tok_ok")
		s.becomes(o.ID, "paid")
		require.Equal(t, http.StatusAccepted, s.cancel(o.ID))
		s.cancel(o.ID) // 202 while the refund runs, 409 after it: no second refund
		require.Equal(t, []string{"placed", "paid", "refunded"}, s.becomes(o.ID, "refunded").path())
		require.Len(t, s.refunds(o.ID), 1)
		s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID, "Refund for order " + o.ID},
			func() []string { return s.subjects("carol") })
		require.Equal(t, http.StatusConflict, s.cancel(o.ID))
	})
	t.Run("the same idempotency key returns the same order", func(t *testing.T) { checkIdempotency(t, s) })
	t.Run("the answer to a bad request names the field", func(t *testing.T) { checkBadRequests(t, s) })
	t.Run("the audit stream has all of it", func(t *testing.T) {
		types := map[string]bool{}
		ctx := t.Context()
		for d, err := range s.broker.Connect(t, s.broker.Config()).Stream(ctx, contract.AuditStream, messaging.FirstOffset()) {
			require.NoError(t, err)
			types[d.Type] = true
			if len(types) == 7 {
				break
			}
		}
		for _, kind := range []messaging.MessageType{contract.OrderPlaced, contract.OrderPaid, contract.OrderDeclined, contract.OrderRefunded,
			contract.PaymentCaptured, contract.PaymentDeclined, contract.PaymentRefunded} {
			require.True(t, types[kind.Name], kind.Name)
		}
	})
	t.Run("the broker is as the contract says", func(t *testing.T) {
		differences, err := messaging.Verify(t.Context(), s.broker.Admin(), contract.All(0))
		require.NoError(t, err)
		require.Empty(t, differences)
	})
}

func checkIdempotency(t *testing.T, s *system) {
	t.Helper()
	body := orderBody("dan", contract.TierStandard, "tok_ok", "mug")
	var first, second orderView
	status, header, answer, err := s.try(s.orders[0].URL, "key-1", body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	require.NoError(t, json.Unmarshal(answer, &first))
	require.Equal(t, "/v1/orders/"+first.ID, header.Get("Location"))
	status, _, answer, err = s.try(s.orders[0].URL, "key-1", body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, json.Unmarshal(answer, &second))
	require.Equal(t, first.ID, second.ID)
	status, _, _, err = s.try(s.orders[0].URL, "key-1", strings.Replace(body, `"quantity":2`, `"quantity":3`, 1))
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, status)
	status, _, answer, err = s.try(s.orders[0].URL, "key-1", strings.Replace(body, "dan", "dora", 1))
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status, "keys of different customers are different")
	require.NoError(t, json.Unmarshal(answer, &second))
	require.NotEqual(t, first.ID, second.ID)
}

func checkBadRequests(t *testing.T, s *system) {
	t.Helper()
	for name, c := range map[string]struct {
		body   string
		status int
		field  string
	}{
		"malformed":   {`{`, http.StatusBadRequest, ""},
		"wrong type":  {`{"customer_id":7}`, http.StatusBadRequest, "customer_id"},
		"region":      {strings.Replace(orderBody("x", "standard", "tok_ok", "mug"), `"eu"`, `"mars"`, 1), http.StatusUnprocessableEntity, "region"},
		"unknown sku": {orderBody("x", "standard", "tok_ok", "unicorn"), http.StatusUnprocessableEntity, "items[0].sku"},
		"too large":   {`{"customer_id":"` + strings.Repeat("x", 70<<10) + `"}`, http.StatusRequestEntityTooLarge, ""},
	} {
		status, header, answer, err := s.try(s.orders[0].URL, "", c.body)
		require.NoError(t, err)
		require.Equal(t, c.status, status, "%s: %s", name, answer)
		require.Equal(t, "application/problem+json", header.Get("Content-Type"))
		require.Contains(t, string(answer), c.field, name)
	}
}

func TestExpressGoesFirst(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	tier := map[string]string{}
	for i := range 10 { // billing does not run yet
		kind := contract.TierStandard
		if i >= 5 {
			kind = contract.TierExpress
		}
		tier[s.place(fmt.Sprint("customer", i), kind, "tok_ok").ID] = kind
	}
	s.depth(contract.BillingCharge.Name, 10)
	s.startBilling(1)
	var captures []movement
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		captures = s.captures("")
		return len(captures) == 10, fmt.Sprint(len(captures))
	})
	for i, c := range captures { // newest first
		want := contract.TierStandard
		if i >= 5 {
			want = contract.TierExpress
		}
		require.Equal(t, want, tier[c.OrderID], "capture %d from the end", i)
	}
}

func TestAnUnpaidOrderIsCancelledByItsDeadline(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 2*time.Second)
	s.startPricing()
	s.startOrders()
	s.startNotifier()
	o := s.place("frank", contract.TierStandard, "tok_ok")
	o = s.becomes(o.ID, "cancelled")
	require.Equal(t, "not paid in time", o.History[1].Reason)
	require.GreaterOrEqual(t, o.History[1].At.Sub(o.History[0].At), 2*time.Second)
	s.eventuallySame([]string{"Order " + o.ID + " is cancelled"}, func() []string { return s.subjects("frank") })

	s.startBilling(2) // the charge is still in its queue: a late capture
	require.Equal(t, []string{"placed", "cancelled", "refunded"}, s.becomes(o.ID, "refunded").path())
	require.Len(t, s.captures(o.ID), 1)
	require.Len(t, s.refunds(o.ID), 1)
}
