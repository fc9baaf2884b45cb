package postgres_test

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

type fixture struct {
	*postgres.Store
	pool *pgxpool.Pool
}

func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, service.Migrate(t.Context(), pool,
		service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations},
		service.Migrations{VersionTable: inbox.VersionTable, Files: inbox.Migrations},
		service.Migrations{VersionTable: "notifier_version", Files: postgres.Migrations}))
	return &fixture{postgres.NewStore(pool), pool}
}

type row struct {
	Key, Exchange, Route string
	Message              messaging.Message
}

func (f *fixture) outbox(t *testing.T) []row {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), `SELECT key, exchange, route, message FROM outbox ORDER BY key`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	return list
}

func delivery(id string) *messaging.Delivery {
	return &messaging.Delivery{Message: messaging.Message{ID: id, CorrelationID: "o1"}, Queue: "notifier.orders"}
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
	first, err := f.Enqueue(t.Context(), delivery("m1"), []notify.Note{note("ada", "k1"), note("grace", "k2")})
	require.NoError(t, err)
	require.True(t, first)

	rows := f.outbox(t)
	require.Len(t, rows, 2)
	for i, want := range []contract.Notification{
		{Recipient: "ada@example.com", DedupeKey: "k1"},
		{Recipient: "grace@example.com", DedupeKey: "k2"},
	} {
		want.Template, want.Data = notify.TemplatePaid, map[string]any{"order_id": "o1"}
		got := rows[i]
		require.Equal(t, want.DedupeKey, got.Key)
		require.Equal(t, contract.Notifications, got.Exchange)
		require.Empty(t, got.Route, "a headers exchange reads no key")
		require.Equal(t, contract.NotificationType.Name, got.Message.Type)
		require.Equal(t, "o1", got.Message.CorrelationID)
		require.Equal(t, map[string]any{contract.HeaderChannel: contract.ChannelEmail, contract.HeaderUrgency: contract.UrgencyHigh}, got.Message.Headers)
		var body contract.Notification
		require.NoError(t, json.Unmarshal(got.Message.Body, &body))
		require.Equal(t, want, body)
	}
}

func TestEnqueueOncePerMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var firsts atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			first, err := f.Enqueue(t.Context(), delivery("m1"), []notify.Note{note("ada", "k1")})
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, firsts.Load())
	require.Len(t, f.outbox(t), 1)

	_, err := f.Enqueue(t.Context(), delivery(""), nil)
	require.ErrorIs(t, err, inbox.ErrNoID)
	require.True(t, messaging.IsPermanent(err))
}

// What cannot be written leaves no trace, so the next attempt is the first again.
func TestEnqueueAllOrNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	bad := note("ada", "k2")
	bad.Data = map[string]any{"amount": make(chan int)}
	_, err := f.Enqueue(t.Context(), delivery("m1"), []notify.Note{note("ada", "k1"), bad})
	require.ErrorContains(t, err, "enqueue notifications")
	require.Empty(t, f.outbox(t))
	first, err := f.Enqueue(t.Context(), delivery("m1"), nil)
	require.NoError(t, err)
	require.True(t, first)
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
	_, err := f.pool.Exec(t.Context(), `UPDATE sent SET sent_at = now() - interval '2 hours' WHERE dedupe_key = 'old'`)
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
