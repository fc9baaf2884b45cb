package charge_test

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/billing/internal/charge"
	"example.com/orderflow/services/billing/internal/postgres"
)

// fixture is a Service with a real database, and a provider whose answers the test sets.
type fixture struct {
	*charge.Service
	pool *pgxpool.Pool
	logs *observer.ObservedLogs

	mu     sync.Mutex
	status int
	keys   []string // idempotency keys of the calls
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	f := &fixture{pool: db.Pool(), status: http.StatusCreated}
	provider, _ := newProvider(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.keys = append(f.keys, r.Header.Get("Idempotency-Key"))
		if f.status == noAnswer {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(f.status)
		if f.status == http.StatusCreated || f.status == http.StatusOK {
			_, _ = w.Write([]byte(captured))
		} else {
			_, _ = w.Write([]byte(`{"code":"card_declined"}`))
		}
	})
	core, logs := observer.New(zap.DebugLevel)
	f.logs = logs
	f.Service = charge.NewService(postgres.NewStore(db.DB), provider, zap.New(core))
	return f
}

// noAnswer makes the provider close the connection before it answers.
const noAnswer = 0

// answer sets the provider's answer from now on.
func (f *fixture) answer(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

// events returns the types of the messages in the outbox.
func (f *fixture) events(t *testing.T) (types []string, bodies []contract.PaymentBody) {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), `SELECT message FROM outbox ORDER BY id`)
	require.NoError(t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[messaging.Message])
	require.NoError(t, err)
	for _, m := range messages {
		var body contract.PaymentBody
		require.NoError(t, json.Unmarshal(m.Body, &body))
		require.Equal(t, body.OrderID, m.CorrelationID)
		types, bodies = append(types, m.Type), append(bodies, body)
	}
	return types, bodies
}

func refund() charge.Command {
	c := command()
	c.Token = ""
	c.Received = charge.Received{Queue: contract.BillingRefund.Name, MessageID: "m-2", Attempt: 1}
	return c
}

func TestCharge(t *testing.T) {
	t.Parallel()

	t.Run("captured", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		c := command()
		c.Received.Attempt = 3
		require.NoError(t, f.Charge(t.Context(), c))
		types, bodies := f.events(t)
		require.Equal(t, []string{contract.PaymentCaptured.Name}, types)
		require.WithinDuration(t, time.Now(), bodies[0].At, time.Minute)
		bodies[0].At = time.Time{}
		require.Equal(t, contract.PaymentBody{PaymentID: "p-1", OrderID: "o-1", CustomerID: "c-1",
			Region: "eu", Tier: "express", Amount: c.Amount, Attempts: 3}, bodies[0])
	})

	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.answer(http.StatusPaymentRequired)
		require.NoError(t, f.Charge(t.Context(), command()))
		types, bodies := f.events(t)
		require.Equal(t, []string{contract.PaymentDeclined.Name}, types)
		require.Equal(t, "card_declined", bodies[0].Reason)
		require.ErrorIs(t, f.Refund(t.Context(), refund()), charge.ErrDeclined)
	})

	t.Run("unavailable, then captured", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.answer(http.StatusServiceUnavailable)
		require.True(t, messaging.IsUnavailable(f.Charge(t.Context(), command())))
		types, _ := f.events(t)
		require.Empty(t, types)
		f.answer(http.StatusCreated)
		require.NoError(t, f.Charge(t.Context(), command()))
		require.Equal(t, []string{"p-1", "p-1"}, f.keys, "the key stays the same")
	})

	t.Run("the answer is lost, then found", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.answer(noAnswer)
		require.True(t, messaging.IsUnavailable(f.Charge(t.Context(), command())))
		f.answer(http.StatusOK)
		require.NoError(t, f.Charge(t.Context(), command()))
		require.Equal(t, []string{"p-1", "p-1"}, f.keys)
		types, _ := f.events(t)
		require.Equal(t, []string{contract.PaymentCaptured.Name}, types)
	})

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.answer(http.StatusUnprocessableEntity)
		require.True(t, messaging.IsPermanent(f.Charge(t.Context(), command())))
		types, _ := f.events(t)
		require.Empty(t, types)
	})
}

func TestAPaymentThatIsChargedAgain(t *testing.T) {
	t.Parallel()

	t.Run("the same payment in another message has no effect", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		require.NoError(t, f.Charge(t.Context(), command()))
		again := command()
		again.Received.MessageID = "m-9"
		require.NoError(t, f.Charge(t.Context(), again))
		types, _ := f.events(t)
		require.Len(t, types, 1)
		require.Len(t, f.keys, 1, "the provider is not called again")
	})

	t.Run("at the same time, in different messages", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			c := command()
			c.Received.MessageID = string(rune('a' + i/2)) // each message twice
			wg.Go(func() { errs[i] = f.Charge(t.Context(), c) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		types, _ := f.events(t)
		require.Equal(t, []string{contract.PaymentCaptured.Name}, types)
		var entries int
		require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM ledger`).Scan(&entries))
		require.Equal(t, 1, entries)
	})

	t.Run("the payment id of another order or amount", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		require.NoError(t, f.Charge(t.Context(), command()))
		for _, change := range []func(*charge.Command){
			func(c *charge.Command) { c.OrderID = "o-2" },
			func(c *charge.Command) { c.Amount.AmountMinor++ },
			func(c *charge.Command) { c.Amount.Currency = "USD" },
		} {
			c := command()
			c.Received.MessageID = "m-9"
			change(&c)
			require.ErrorIs(t, f.Charge(t.Context(), c), charge.ErrMismatch)
			require.ErrorIs(t, f.Refund(t.Context(), c), charge.ErrMismatch)
		}
		require.Len(t, f.keys, 1)
	})
}

func TestRefund(t *testing.T) {
	t.Parallel()

	t.Run("after the capture, once", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		require.NoError(t, f.Charge(t.Context(), command()))
		require.NoError(t, f.Refund(t.Context(), refund()))
		require.NoError(t, f.Refund(t.Context(), refund()))
		types, _ := f.events(t)
		require.Equal(t, []string{contract.PaymentCaptured.Name, contract.PaymentRefunded.Name}, types)
		require.Equal(t, []string{"p-1", "refund:p-1"}, f.keys)
	})

	t.Run("before the charge was seen", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		require.ErrorIs(t, f.Refund(t.Context(), refund()), charge.ErrNotCaptured)
		require.Empty(t, f.keys)
	})

	t.Run("while the charge is in progress", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.answer(http.StatusServiceUnavailable)
		require.Error(t, f.Charge(t.Context(), command()))
		require.ErrorIs(t, f.Refund(t.Context(), refund()), charge.ErrNotCaptured)
		f.answer(http.StatusCreated)
		require.NoError(t, f.Charge(t.Context(), command()))
		require.NoError(t, f.Refund(t.Context(), refund()))
	})

	t.Run("the provider is unavailable, then available", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		require.NoError(t, f.Charge(t.Context(), command()))
		f.answer(http.StatusBadGateway)
		require.True(t, messaging.IsUnavailable(f.Refund(t.Context(), refund())))
		f.answer(http.StatusCreated)
		require.NoError(t, f.Refund(t.Context(), refund()))
	})
}

func TestTheTokenIsKeptNowhere(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.Charge(t.Context(), command()))
	require.NotZero(t, f.logs.Len())
	for _, entry := range f.logs.All() {
		for _, field := range entry.Context {
			require.NotContains(t, field.String, token)
		}
	}
	for _, table := range []string{"payments", "ledger", "inbox", "outbox"} {
		var found bool
		require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM `+table+` t WHERE t::text LIKE '%' || $1 || '%')`, token).Scan(&found))
		require.False(t, found, table)
	}
}
