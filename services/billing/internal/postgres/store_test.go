package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/billing/internal/charge"
	"example.com/orderflow/services/billing/internal/postgres"
)

type fixture struct {
	*postgres.Store
	commits func() int
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	return &fixture{postgres.NewStore(db.DB), db.Commits}
}

func payment() charge.Payment {
	return charge.Payment{ID: "p-1", OrderID: "o-1", Amount: contract.Money{AmountMinor: 1999, Currency: "EUR"}}
}

func settlement(t *testing.T, messageID string, outcome charge.State) charge.Settlement {
	t.Helper()
	event, err := messaging.NewMessage(contract.PaymentCaptured, contract.PaymentBody{PaymentID: "p-1"})
	require.NoError(t, err)
	return charge.Settlement{
		Received:  charge.Received{Queue: contract.BillingCharge.Name, MessageID: messageID, Attempt: 1},
		PaymentID: "p-1", Outcome: outcome, Event: event, Route: contract.PaymentRoute("o-1"),
	}
}

// counts returns the number of rows in the inbox, the ledger and the outbox.
func (f *fixture) counts(t *testing.T) (counts [3]int) {
	t.Helper()
	require.NoError(t, f.Pool().QueryRow(t.Context(), `SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM ledger), (SELECT count(*) FROM outbox)`).
		Scan(&counts[0], &counts[1], &counts[2]))
	return counts
}

func TestIntend(t *testing.T) {
	t.Parallel()
	f := setup(t)
	want := payment()
	want.State = charge.Pending
	for range 2 {
		got, err := f.Intend(t.Context(), payment())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	other := payment()
	other.OrderID, other.Amount.AmountMinor = "o-2", 1
	got, err := f.Intend(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, want, got, "the first one is kept")

	_, found, err := f.Find(t.Context(), "p-2")
	require.NoError(t, err)
	require.False(t, found)
}

func TestSettle(t *testing.T) {
	t.Parallel()

	t.Run("stores all or nothing", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.Intend(t.Context(), payment())
		require.NoError(t, err)

		broken := settlement(t, "m-1", charge.Captured)
		broken.Event.ID = "" // refused by the outbox, which is the last step
		_, err = f.Settle(t.Context(), broken)
		require.Error(t, err)
		require.Equal(t, [3]int{}, f.counts(t))
		p, _, err := f.Find(t.Context(), "p-1")
		require.NoError(t, err)
		require.Equal(t, charge.Pending, p.State)

		changed, err := f.Settle(t.Context(), settlement(t, "m-1", charge.Captured))
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, [3]int{1, 1, 1}, f.counts(t))
		require.Equal(t, 1, f.commits())
	})

	t.Run("has one effect per message and per payment", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.Intend(t.Context(), payment())
		require.NoError(t, err)
		for i, id := range []string{"m-1", "m-1", "m-2"} {
			changed, err := f.Settle(t.Context(), settlement(t, id, charge.Captured))
			require.NoError(t, err)
			require.Equal(t, i == 0, changed, id)
		}
		require.Equal(t, [3]int{2, 1, 1}, f.counts(t))
		require.Equal(t, 2, f.commits(), "the inbox row of m-2 is committed too")
	})

	t.Run("an impossible outcome stores nothing", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.Intend(t.Context(), payment())
		require.NoError(t, err)
		_, err = f.Settle(t.Context(), settlement(t, "m-1", charge.Refunded))
		require.ErrorIs(t, err, charge.ErrNotCaptured)
		require.Equal(t, [3]int{}, f.counts(t), "the message may be tried again")

		_, err = f.Settle(t.Context(), settlement(t, "m-1", charge.Declined))
		require.NoError(t, err)
		_, err = f.Settle(t.Context(), settlement(t, "m-2", charge.Refunded))
		require.ErrorIs(t, err, charge.ErrDeclined)
		require.Equal(t, [3]int{1, 0, 1}, f.counts(t), "a decline moves no money")
	})

	t.Run("a declined payment that is captured later", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.Intend(t.Context(), payment())
		require.NoError(t, err)
		for i, outcome := range []charge.State{charge.Declined, charge.Captured, charge.Refunded} {
			changed, err := f.Settle(t.Context(), settlement(t, fmt.Sprint("m-", i), outcome))
			require.NoError(t, err)
			require.True(t, changed, outcome)
		}
		require.Equal(t, [3]int{3, 2, 3}, f.counts(t), "each is announced, with a capture and a refund in the ledger")
	})

	t.Run("a message without an id", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.Settle(t.Context(), settlement(t, "", charge.Captured))
		require.ErrorIs(t, err, inbox.ErrNoID)
		require.True(t, messaging.IsPermanent(err))
	})
}

func TestTheDatabaseForbidsASecondCapture(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.Intend(t.Context(), payment())
	require.NoError(t, err)
	insert := func(ctx context.Context) error {
		_, err := f.Pool().Exec(ctx, `INSERT INTO ledger (payment_id, kind, amount_minor, currency) VALUES ('p-1', 'captured', 1999, 'EUR')`)
		return err
	}
	require.NoError(t, insert(t.Context()))
	require.ErrorContains(t, insert(t.Context()), "ledger_pkey")
}
