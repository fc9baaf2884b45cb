package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
)

// Not parallel: the broker is shared by all tests, and this one restarts it.
func TestAThousandOrdersOverABrokerRestart(t *testing.T) {
	const orders, clients = 1000, 8
	s := newSystem(t, 0)
	s.startAll()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	numbers := make(chan int)
	ids := make(chan string, orders)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := range numbers {
				ids <- s.insist(ctx, fmt.Sprint("order-", n), orderBody(fmt.Sprint("customer", n), contract.TierStandard, "tok_ok", "mug"))
			}
		})
	}
	for n := range orders {
		numbers <- n
		if n == orders/3 {
			s.broker.Restart(t)
		}
	}
	close(numbers)
	wg.Wait()
	close(ids)
	distinct := map[string]bool{}
	for id := range ids {
		require.NotEmpty(t, id, "every order was accepted")
		distinct[id] = true
	}
	require.Len(t, distinct, orders)

	db := s.connect("orders")
	messagingtest.Eventually(t, 4*time.Minute, func() (bool, string) {
		var paid int
		require.NoError(t, db.QueryRow(ctx, `SELECT count(*) FROM orders WHERE status = 'paid'`).Scan(&paid))
		return paid == orders, fmt.Sprint(paid, " paid")
	})
	var total struct {
		Total int `json:"total"`
	}
	s.getJSON("http://"+s.sandbox.Addr()+"/v1/captures", &total)
	require.Equal(t, orders, total.Total)
}

// insist repeats an order with one key until it is accepted, as a client should.
func (s *system) insist(ctx context.Context, key, body string) string {
	for ctx.Err() == nil {
		status, _, answer, err := s.try(s.orders[0].URL, key, body)
		if err == nil && (status == http.StatusCreated || status == http.StatusOK) {
			var o orderView
			if json.Unmarshal(answer, &o) == nil {
				return o.ID
			}
		}
		if err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			s.t.Errorf("order %s: %d %s", key, status, answer)
			return ""
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ""
}

func (s *system) connect(database string) *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.databases[database])
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func paymentEvent(t *testing.T, kind messaging.MessageType, o orderView) messaging.Message {
	t.Helper()
	m, err := messaging.NewMessage(kind, contract.PaymentBody{
		PaymentID: uuid.NewString(), OrderID: o.ID, CustomerID: "test", Region: contract.RegionEU, Tier: contract.TierStandard,
		Amount: o.Total, Attempts: 1, At: time.Now().UTC(),
	})
	require.NoError(t, err)
	m.CorrelationID = o.ID
	return m
}

func TestAnOrdersEventsStayInOrderWhenOneFails(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.databases["orders"] += "?lock_timeout=200" // so that a locked row is an error
	s.startPricing()
	s.startOrders()
	s.startOrders()
	var placed []orderView
	for i := range 12 {
		placed = append(placed, s.place(fmt.Sprint("customer", i), contract.TierStandard, "tok_ok"))
	}
	stuck := placed[5]
	tx, err := s.connect("orders").Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM orders WHERE id = $1 FOR UPDATE`, stuck.ID)
	require.NoError(t, err)

	for _, o := range placed {
		s.publish(contract.BillingUser, contract.PaymentRoute(o.ID),
			paymentEvent(t, contract.PaymentCaptured, o), paymentEvent(t, contract.PaymentRefunded, o))
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		tries := s.logs.FilterMessage("attempt failed, trying again in place").Len()
		return tries >= 2, fmt.Sprint(tries)
	})
	require.Equal(t, []string{"placed"}, s.becomes(stuck.ID, "placed").path())
	require.NoError(t, tx.Rollback(t.Context()))
	for _, o := range placed {
		require.Equal(t, []string{"placed", "paid", "refunded"}, s.becomes(o.ID, "refunded").path())
	}
}

func TestADuplicateHasOneEffect(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startNotifier()
	ch := s.raw()
	o := s.place("heidi", contract.TierStandard, "tok_ok")
	charge := s.takeOne(ch, contract.BillingCharge.Name)
	s.startBilling(4)
	again := messaging.Message{
		ID: charge.MessageId, Type: charge.Type, CorrelationID: charge.CorrelationId, ContentType: charge.ContentType,
		Timestamp: charge.Timestamp, Priority: charge.Priority, Body: charge.Body,
	}
	other := again
	other.ID = uuid.NewString() // the same payment in another message
	s.publish(contract.OrdersUser, contract.ChargeRoute, again, again, other, again)
	s.becomes(o.ID, "paid")

	captured := paymentEvent(t, contract.PaymentCaptured, o)
	s.publish(contract.BillingUser, contract.PaymentRoute(o.ID), captured, captured)
	for _, queue := range []string{contract.BillingCharge.Name, contract.NotifierReceipts.Name, contract.NotifierEmail.Name} {
		s.depth(queue, 0)
	}
	require.Len(t, s.captures(o.ID), 1)
	require.Equal(t, []string{"placed", "paid"}, s.becomes(o.ID, "paid").path())
	s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID}, func() []string { return s.subjects("heidi") })
	s.eventuallySame([]string{"Receipt for order " + o.ID}, func() []string { return s.subjects("test") }) // of the injected event
}

// The provider has captured, but billing has disconnected before the answer.
func TestAnAnswerThatComesTooLate(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startBillingAt("http://"+s.sandbox.Addr(), 4, 300*time.Millisecond)
	o := s.place("nina", contract.TierStandard, "tok_slow_1500")
	s.becomes(o.ID, "paid")
	require.Len(t, s.captures(o.ID), 1)
	require.NotZero(t, s.logs.FilterMessage("what the handlers need is away, pausing").Len(), "billing paused")
	paid := s.logs.FilterMessage("payment captured").All()
	require.Len(t, paid, 1)
	require.EqualValues(t, 1, paid[0].ContextMap()["attempt"], "a provider that does not answer does not count as an attempt")
}

// The provider declines one copy of a charge and accepts the other, whose answer comes last:
// the order is declined, and the payment is refunded.
func TestWhatIsCapturedAfterItWasDeclinedGoesBack(t *testing.T) {
	t.Parallel()
	var captures, refunds atomic.Int32
	declined := make(chan struct{})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var asked struct {
			OrderID string         `json:"order_id"`
			Amount  contract.Money `json:"amount"`
		}
		_ = json.Unmarshal(body, &asked)
		if r.URL.Path == "/v1/refunds" {
			refunds.Add(1)
		} else if captures.Add(1) == 2 {
			w.WriteHeader(http.StatusPaymentRequired)
			return
		} else {
			select {
			case <-declined:
			case <-r.Context().Done():
				return
			}
		}
		payment := strings.TrimPrefix(r.Header.Get("Idempotency-Key"), "refund:")
		service.WriteJSON(w, http.StatusCreated, map[string]any{"payment_id": payment, "order_id": asked.OrderID, "amount": asked.Amount})
	}))
	t.Cleanup(provider.Close)
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startNotifier()
	ch := s.raw()
	o := s.place("olga", contract.TierStandard, "tok_ok")
	charge := s.takeOne(ch, contract.BillingCharge.Name)
	s.startBillingAt(provider.URL, 4, 10*time.Second)
	for range 2 { // with different ids
		s.publish(contract.OrdersUser, contract.ChargeRoute, messaging.Message{
			ID: uuid.NewString(), Type: charge.Type, CorrelationID: charge.CorrelationId, ContentType: charge.ContentType, Body: charge.Body,
		})
	}
	s.becomes(o.ID, "declined")
	close(declined)
	require.Equal(t, []string{"placed", "declined", "refunded"}, s.becomes(o.ID, "refunded").path())
	require.EqualValues(t, 2, captures.Load())
	require.EqualValues(t, 1, refunds.Load())
	s.eventuallySame([]string{"Order " + o.ID + " was declined", "Receipt for order " + o.ID, "Refund for order " + o.ID},
		func() []string { return s.subjects("olga") })
	for _, queue := range []string{contract.BillingCharge.Name, contract.BillingRefund.Name, contract.PaymentShards[0].Name} {
		s.depth(contract.DeadQueue(queue), 0)
	}
}

func TestAPriceChangeReachesEveryReplica(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	for range 3 {
		s.startOrders()
	}
	body := orderBody("ivan", contract.TierStandard, "tok_ok", "lamp")
	for _, replica := range s.orders { // each has cached the catalogue
		status, _, answer, err := s.try(replica.URL, "", body)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnprocessableEntity, status, string(answer))
	}
	require.Equal(t, http.StatusUnauthorized, s.putPrice("lamp", "guess"))
	require.Equal(t, http.StatusOK, s.putPrice("lamp", operatorToken))
	for _, replica := range s.orders {
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			status, _, answer, err := s.try(replica.URL, "", body)
			require.NoError(t, err)
			return status == http.StatusCreated, string(answer)
		})
	}
}

// putPrice sets a price, and returns the status.
func (s *system) putPrice(sku, token string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, s.pricing.URL+"/v1/prices/"+sku,
		bytes.NewBufferString(`{"name":"Lamp","price":{"amount_minor":3500,"currency":"EUR"}}`))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.http.Do(req)
	require.NoError(s.t, err)
	_ = res.Body.Close()
	return res.StatusCode
}

func TestWhatCannotBeRouted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	ch := s.raw()
	t.Run("an event goes to unrouted", func(t *testing.T) {
		require.NoError(t, ch.QueueUnbind(contract.Audit, "#", contract.OrdersEvents, nil))
		o := s.place("judy", contract.TierStandard, "tok_ok")
		event := s.takeOne(ch, contract.Unrouted)
		require.Equal(t, contract.OrderPlaced.Name, event.Type)
		require.Equal(t, o.ID, event.CorrelationId)
		s.depth(contract.BillingCharge.Name, 1) // the command was routed
	})
	t.Run("a command is returned and kept", func(t *testing.T) {
		require.NoError(t, ch.QueueUnbind(contract.BillingCharge.Name, "charge", contract.BillingCommands, nil))
		o := s.place("kim", contract.TierStandard, "tok_ok")
		db := s.connect("orders")
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			var reason string
			err := db.QueryRow(t.Context(), `SELECT coalesce(max(last_error), '') FROM outbox WHERE key = $1`, o.ID).Scan(&reason)
			require.NoError(t, err)
			return strings.Contains(reason, "NO_ROUTE"), reason
		})
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { // the number is cached
			_, metrics := s.get(s.orders[0].Admin + "/metrics")
			return strings.Contains(metrics, "outbox_held_back 1\n"), metrics
		})
		require.NoError(t, ch.QueueBind(contract.BillingCharge.Name, "charge", contract.BillingCommands, false, nil))
		s.startBilling(2)
		s.becomes(o.ID, "paid")
	})
}

func TestWithoutPricing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.place("leo", contract.TierStandard, "tok_ok")
	s.pricing.Stop()

	started := time.Now()
	status, header, answer, err := s.try(s.orders[0].URL, "key", orderBody("leo", contract.TierStandard, "tok_ok", "mug"))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status, string(answer))
	require.NotEmpty(t, header.Get("Retry-After"))
	require.Less(t, time.Since(started), 8*time.Second, "the call's deadline, not the client's")
	s.depth(contract.PricingQuoteQueue.Name, 0) // the request has expired in its queue

	s.startPricing()
	status, _, answer, err = s.try(s.orders[0].URL, "key", orderBody("leo", contract.TierStandard, "tok_ok", "mug"))
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status, "a refused request does not use its key: %s", answer)
}

func TestAMessageFromElsewhereIsParked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	o := s.place("max", contract.TierStandard, "tok_ok")
	ch := s.raw()
	forged := paymentEvent(t, contract.PaymentCaptured, o)
	// A user who may write to the default exchange can publish to every queue.
	s.publish(contract.PricingUser, messaging.Route{Key: contract.PaymentShards[0].Name}, forged)
	dead := s.takeOne(ch, contract.DeadQueue(contract.PaymentShards[0].Name))
	require.Equal(t, forged.ID, dead.MessageId)
	require.Contains(t, dead.Headers[messaging.HeaderDeadReason], "untrusted source")
	require.Equal(t, contract.PricingUser, dead.Headers[messaging.HeaderDeadUser])
	require.Equal(t, []string{"placed"}, s.becomes(o.ID, "placed").path())
}
