package postgres_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

type fixture struct {
	*postgres.Store
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	return &fixture{postgres.NewStore(db.DB)}
}

type row struct {
	Key, Exchange, Route string
	Message              messaging.Message
}

func (f *fixture) outbox(t *testing.T) []row {
	t.Helper()
	rows, err := f.Pool().Query(t.Context(), `SELECT key, exchange, route, message FROM outbox ORDER BY key`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	return list
}

// enqueue adds notes in its own transaction.
func (f *fixture) enqueue(t *testing.T, notes ...notify.Note) error {
	t.Helper()
	d := &messaging.Delivery{Message: messaging.Message{ID: "m1", CorrelationID: "o1"}, Queue: "notifier.orders"}
	return f.Do(t.Context(), func(tx *transactional.Tx) error { return f.Enqueue(t.Context(), tx, d, notes) })
}

func note(customer, key string) notify.Note {
	return notify.Note{
		Channel: contract.ChannelEmail, Urgency: contract.UrgencyHigh, CustomerID: customer, Template: notify.TemplatePaid,
		Data: map[string]any{"order_id": "o1"}, DedupeKey: key,
	}
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.enqueue(t, note("ada", "k1"), note("grace", "k2")))

	rows := f.outbox(t)
	require.Len(t, rows, 2)
	for i, want := range []contract.NotificationBody{
		{Recipient: "ada@example.com", DedupeKey: "k1"},
		{Recipient: "grace@example.com", DedupeKey: "k2"},
	} {
		want.Template, want.Data = notify.TemplatePaid, map[string]any{"order_id": "o1"}
		got := rows[i]
		require.Equal(t, want.DedupeKey, got.Key)
		require.Equal(t, contract.Notifications, got.Exchange)
		require.Empty(t, got.Route, "a headers exchange ignores the key")
		require.Equal(t, contract.Notification.Name, got.Message.Type)
		require.Equal(t, "o1", got.Message.CorrelationID)
		require.Equal(t, map[string]any{contract.HeaderChannel: contract.ChannelEmail, contract.HeaderUrgency: contract.UrgencyHigh}, got.Message.Headers)
		var body contract.NotificationBody
		require.NoError(t, json.Unmarshal(got.Message.Body, &body))
		require.Equal(t, want, body)
	}
}

// If a note cannot be stored, nothing is.
func TestEnqueueAllOrNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	bad := note("ada", "k2")
	bad.Data = map[string]any{"amount": make(chan int)}
	require.ErrorContains(t, f.enqueue(t, note("ada", "k1"), bad), "enqueue notifications")
	require.Empty(t, f.outbox(t))
	require.NoError(t, f.enqueue(t))
	require.Empty(t, f.outbox(t))
}

func TestSent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for range 2 {
		require.NoError(t, f.MarkSent(t.Context(), contract.ChannelEmail, "k1"))
	}
	for _, c := range []struct {
		channel, key string
		want         bool
	}{
		{contract.ChannelEmail, "k1", true},
		{contract.ChannelWebhook, "k1", false},
		{contract.ChannelEmail, "k2", false},
	} {
		sent, err := f.WasSent(t.Context(), c.channel, c.key)
		require.NoError(t, err)
		require.Equal(t, c.want, sent, c.channel+" "+c.key)
	}
}

func TestPruneSent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, key := range []string{"old", "new"} {
		require.NoError(t, f.MarkSent(t.Context(), contract.ChannelEmail, key))
	}
	_, err := f.Pool().Exec(t.Context(), `UPDATE sent SET sent_at = now() - interval '2 hours' WHERE dedupe_key = 'old'`)
	require.NoError(t, err)
	n, err := f.PruneSent(t.Context(), time.Hour)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	for key, want := range map[string]bool{"old": false, "new": true} {
		sent, err := f.WasSent(t.Context(), contract.ChannelEmail, key)
		require.NoError(t, err)
		require.Equal(t, want, sent, key)
	}
}
