package postgres_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

type fixture struct {
	*postgres.Store
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	return &fixture{postgres.NewStore(db.DB)}
}

func newOrder(t *testing.T) (*order.Order, []order.Outgoing) {
	t.Helper()
	o, err := order.New(order.Request{
		CustomerID: "c-1", Region: contract.RegionEU, Tier: contract.TierStandard, PaymentToken: "tok_ok",
		Items: []order.Item{{SKU: "mug", Quantity: 2}},
	}, contract.Money{AmountMinor: 2580, Currency: "EUR"}, time.Now())
	require.NoError(t, err)
	messages, err := o.PlacedMessages("tok_ok")
	require.NoError(t, err)
	return o, messages
}

func (f *fixture) place(t *testing.T) *order.Order {
	t.Helper()
	o, messages := newOrder(t)
	_, _, err := f.Place(t.Context(), o, messages, "", nil)
	require.NoError(t, err)
	return o
}

// settle applies an event in its own transaction.
func (f *fixture) settle(t *testing.T, id string, event order.Event, reason string) (effect order.Effect, err error) {
	t.Helper()
	err = f.Do(t.Context(), func(tx *transactional.Tx) (err error) {
		_, effect, err = f.Settle(t.Context(), tx, id, event, reason)
		return err
	})
	return effect, err
}

// settled is settle, and requires that there is no error.
func (f *fixture) settled(t *testing.T, id string, event order.Event) order.Effect {
	t.Helper()
	effect, err := f.settle(t, id, event, "because")
	require.NoError(t, err)
	return effect
}

func (f *fixture) find(t *testing.T, id string) *order.Order {
	t.Helper()
	o, err := f.Find(t.Context(), id)
	require.NoError(t, err)
	return o
}

// outbox returns the types of an order's messages in the outbox, in their order.
func (f *fixture) outbox(t *testing.T, id string) []string {
	t.Helper()
	rows, err := f.Pool().Query(t.Context(), `SELECT message->>'Type' FROM outbox WHERE key = $1 ORDER BY id`, id)
	require.NoError(t, err)
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return types
}

// counts returns the number of orders, keys, and rows of inbox and outbox.
func (f *fixture) counts(t *testing.T) (counts [4]int) {
	t.Helper()
	require.NoError(t, f.Pool().QueryRow(t.Context(), `SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM idempotency_keys),
		(SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)`).Scan(&counts[0], &counts[1], &counts[2], &counts[3]))
	return counts
}

var placedTypes = []string{contract.OrderPlaced.Name, contract.Charge.Name, contract.PaymentDeadline.Name}

func TestPlace(t *testing.T) {
	t.Parallel()

	t.Run("stores the order and its messages", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o := f.place(t)
		require.Equal(t, o, f.find(t, o.ID))
		require.Equal(t, placedTypes, f.outbox(t, o.ID))

		rows, err := f.Pool().Query(t.Context(), `SELECT exchange, route FROM outbox ORDER BY id`)
		require.NoError(t, err)
		routes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[messaging.Route])
		require.NoError(t, err)
		require.Equal(t, []messaging.Route{
			{Exchange: contract.OrdersEvents, Key: "order.placed.eu.standard"}, contract.ChargeRoute, contract.PaymentDeadlineRoute,
		}, routes)
	})

	t.Run("all or nothing", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o, messages := newOrder(t)
		messages[2].Message.ID = "" // refused by the outbox, which is the last step
		_, _, err := f.Place(t.Context(), o, messages, "key", []byte("hash"))
		require.Error(t, err)
		require.Equal(t, [4]int{}, f.counts(t))
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	hash := []byte("hash")

	t.Run("returns the first order", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		none, err := f.FindByKey(t.Context(), "c-1", "key", hash)
		require.NoError(t, err)
		require.Nil(t, none)

		o, messages := newOrder(t)
		_, isNew, err := f.Place(t.Context(), o, messages, "key", hash)
		require.NoError(t, err)
		require.True(t, isNew)
		found, err := f.FindByKey(t.Context(), "c-1", "key", hash)
		require.NoError(t, err)
		require.Equal(t, o.ID, found.ID)
	})

	t.Run("returns one order to 8 concurrent requests", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		var mu sync.Mutex
		made, ids := 0, map[string]bool{}
		var errs error
		var wg sync.WaitGroup
		for range 8 {
			o, messages := newOrder(t)
			wg.Go(func() {
				stored, isNew, err := f.Place(t.Context(), o, messages, "key", hash)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = errors.Join(errs, err)
					return
				}
				ids[stored.ID] = true
				if isNew {
					made++
				}
			})
		}
		wg.Wait()
		require.NoError(t, errs)
		require.Equal(t, 1, made)
		require.Len(t, ids, 1)
		require.Equal(t, [4]int{1, 1, 0, 3}, f.counts(t))
	})

	t.Run("refuses another request", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o, messages := newOrder(t)
		_, _, err := f.Place(t.Context(), o, messages, "key", hash)
		require.NoError(t, err)
		_, err = f.FindByKey(t.Context(), "c-1", "key", []byte("another"))
		require.ErrorIs(t, err, order.ErrKeyReused)
		o, messages = newOrder(t)
		_, _, err = f.Place(t.Context(), o, messages, "key", []byte("another"))
		require.ErrorIs(t, err, order.ErrKeyReused)
		require.Equal(t, [4]int{1, 1, 0, 3}, f.counts(t))
	})
}

// Two customers may use the same key.
func TestIdempotencyKeysAreTheCustomersOwn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := map[string]bool{}
	for _, customer := range []string{"ada", "bob"} {
		o, messages := newOrder(t)
		o.CustomerID = customer
		_, isNew, err := f.Place(t.Context(), o, messages, "key", []byte(customer))
		require.NoError(t, err)
		require.True(t, isNew)
		found, err := f.FindByKey(t.Context(), customer, "key", []byte(customer))
		require.NoError(t, err)
		ids[found.ID] = true
	}
	require.Len(t, ids, 2)
}

func TestSettle(t *testing.T) {
	t.Parallel()

	t.Run("writes the status, the history and the message", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o := f.place(t)
		require.Equal(t, order.Announce, f.settled(t, o.ID, order.PaymentCaptured))
		got := f.find(t, o.ID)
		require.Equal(t, order.Paid, got.Status)
		require.Len(t, got.History, 2)
		require.Equal(t, "because", got.History[1].Reason)
		require.Equal(t, append(placedTypes, contract.OrderPaid.Name), f.outbox(t, o.ID))
	})

	t.Run("applies one of 8 concurrent events", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o := f.place(t)
		effects := make([]order.Effect, 8)
		errs := make([]error, len(effects))
		var wg sync.WaitGroup
		for i := range effects {
			wg.Go(func() { effects[i], errs[i] = f.settle(t, o.ID, order.DeadlinePassed, "") })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		applied := 0
		for _, effect := range effects {
			if effect != order.Nothing {
				applied++
			}
		}
		require.Equal(t, 1, applied)
		require.Len(t, f.find(t, o.ID).History, 2)
		require.Equal(t, [4]int{1, 0, 0, 4}, f.counts(t))
	})

	t.Run("an event that comes too late changes nothing", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o := f.place(t)
		require.Equal(t, order.Announce, f.settled(t, o.ID, order.PaymentCaptured))
		paid, waiting := f.find(t, o.ID), f.outbox(t, o.ID)
		for _, event := range []order.Event{order.PaymentCaptured, order.PaymentDeclined, order.DeadlinePassed} {
			require.Equal(t, order.Nothing, f.settled(t, o.ID, event), event)
		}
		require.Equal(t, paid, f.find(t, o.ID))
		require.Equal(t, waiting, f.outbox(t, o.ID))
	})

	t.Run("a late capture is refunded, once", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		o := f.place(t)
		require.Equal(t, order.Announce, f.settled(t, o.ID, order.DeadlinePassed))
		require.Equal(t, order.CommandRefund, f.settled(t, o.ID, order.PaymentCaptured))
		got := f.find(t, o.ID)
		require.Equal(t, order.Cancelled, got.Status)
		require.True(t, got.RefundOpen)
		require.Equal(t, order.Nothing, f.settled(t, o.ID, order.PaymentCaptured))
		require.Equal(t, order.Announce, f.settled(t, o.ID, order.PaymentRefunded))
		got = f.find(t, o.ID)
		require.Equal(t, order.Refunded, got.Status)
		require.False(t, got.RefundOpen)
		require.Equal(t, append(placedTypes, contract.OrderCancelled.Name, contract.Refund.Name, contract.OrderRefunded.Name), f.outbox(t, o.ID))
	})

	t.Run("there is no such order", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, err := f.settle(t, uuid.NewString(), order.PaymentCaptured, "")
		require.ErrorIs(t, err, order.ErrNotFound)
		require.Equal(t, [4]int{}, f.counts(t))
	})
}

func TestChange(t *testing.T) {
	t.Parallel()
	f := setup(t)
	o := f.place(t)
	refused := errors.New("refused")
	_, _, err := f.Change(t.Context(), o.ID, func(o *order.Order) (order.Effect, error) {
		return o.Apply(order.CustomerCancels, "", time.Now()), refused
	})
	require.ErrorIs(t, err, refused)
	require.Equal(t, o, f.find(t, o.ID))
	require.Equal(t, placedTypes, f.outbox(t, o.ID))

	cancel := func(o *order.Order) (order.Effect, error) { return o.Cancel(time.Now()) }
	changed, effect, err := f.Change(t.Context(), o.ID, cancel)
	require.NoError(t, err)
	require.Equal(t, order.Announce, effect)
	require.Equal(t, order.Cancelled, changed.Status)
	require.Equal(t, order.Cancelled, f.find(t, o.ID).Status)
	require.Equal(t, append(placedTypes, contract.OrderCancelled.Name), f.outbox(t, o.ID))

	_, _, err = f.Change(t.Context(), uuid.NewString(), cancel)
	require.ErrorIs(t, err, order.ErrNotFound)
}

func TestFindUnknown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.place(t).ID
	for _, unknown := range []string{"", "42", uuid.NewString(), "urn:uuid:" + id, "x" + id + "x"} {
		_, err := f.Find(t.Context(), unknown)
		require.ErrorIs(t, err, order.ErrNotFound, unknown)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var newestFirst []string
	for range 5 {
		newestFirst = append([]string{f.place(t).ID}, newestFirst...)
	}
	list := func(status order.Status, before string, limit int) (ids []string) {
		orders, err := f.List(t.Context(), status, before, limit)
		require.NoError(t, err)
		for _, o := range orders {
			require.NotEmpty(t, o.History)
			ids = append(ids, o.ID)
		}
		return ids
	}
	require.Equal(t, newestFirst, list("", "", 10))
	require.Equal(t, newestFirst[:2], list("", "", 2))
	require.Equal(t, newestFirst[2:4], list("", newestFirst[1], 2))
	require.Equal(t, newestFirst[4:], list("", newestFirst[3], 2))
	require.Empty(t, list("", newestFirst[4], 2))

	require.Equal(t, order.Announce, f.settled(t, newestFirst[1], order.PaymentCaptured))
	require.Equal(t, order.Announce, f.settled(t, newestFirst[3], order.PaymentCaptured))
	require.Equal(t, []string{newestFirst[1], newestFirst[3]}, list(order.Paid, "", 10))
	require.Equal(t, []string{newestFirst[3]}, list(order.Paid, newestFirst[1], 10))
	require.Empty(t, list(order.Refunded, "", 10))
}
