package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

var kind = messaging.MessageType{Name: "event.v1"}

type fixture struct {
	pool   *pgxpool.Pool
	broker *messagingtest.BrokerInfo
	conn   *messaging.Conn
	ch     *amqp.Channel
}

// setup makes a database with an outbox and a queue "events".
func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	files, err := outbox.Migrations()
	require.NoError(t, err)
	db := stdlib.OpenDBFromPool(pool)
	defer func() { require.NoError(t, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	require.NoError(t, err)

	b := messagingtest.Broker(t)
	f := &fixture{pool: pool, broker: b, conn: b.Connect(t, b.Config())}
	f.reopen(t)
	_, err = f.ch.QueueDeclare("events", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	return f
}

// reopen gives the test a channel to prepare and to look.
func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	raw, err := amqp.Dial(f.broker.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	f.ch, err = raw.Channel()
	require.NoError(t, err)
}

// add commits one message of a key and gives its id.
func (f *fixture) add(t *testing.T, key, queue string, body any) string {
	t.Helper()
	m, err := messaging.NewMessage(kind, body)
	require.NoError(t, err)
	m.CorrelationID = key
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return outbox.Add(t.Context(), tx, key, messaging.Route{Key: queue}, m)
	}))
	return m.ID
}

// relay runs a relay until the test ends, or until it is stopped.
func (f *fixture) relay(t *testing.T, pub *messaging.Publisher) (*outbox.Relay, func()) {
	t.Helper()
	relay := outbox.NewRelay(f.pool, pub, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return relay, stop
}

func (f *fixture) empty(t *testing.T) {
	t.Helper()
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		waiting, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return waiting == 0, fmt.Sprintf("%d waiting, %d held back", waiting, held)
	})
}

func (f *fixture) received(t *testing.T, queue string) []amqp.Delivery {
	t.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := f.ch.Get(queue, true)
		require.NoError(t, err)
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

func TestKeysKeepTheirOrderWithThreeRelays(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var relays []*outbox.Relay
	for range 3 {
		relay, _ := f.relay(t, publisher(t, f.conn))
		relays = append(relays, relay)
	}
	const keys, each = 20, 15
	for n := range each {
		for k := range keys {
			f.add(t, fmt.Sprint("key", k), "events", n)
			relays[k%len(relays)].Wake()
		}
	}
	f.empty(t)
	next := map[string]int{}
	all := f.received(t, "events")
	for _, d := range all {
		require.Equal(t, fmt.Sprint(next[d.CorrelationId]), string(d.Body), d.CorrelationId)
		next[d.CorrelationId]++
	}
	require.Len(t, all, keys*each)
}

func TestAFailureHoldsBackItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, _ = f.relay(t, publisher(t, f.conn))
	first := f.add(t, "stuck", "not-there", 1)
	second := f.add(t, "stuck", "events", 2)
	other := f.add(t, "free", "events", 3)

	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		waiting, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return waiting == 2 && held == 1, fmt.Sprint(waiting, held)
	})
	got := f.received(t, "events")
	require.Len(t, got, 1)
	require.Equal(t, other, got[0].MessageId)
	var reason string
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT last_error FROM outbox WHERE not_before IS NOT NULL").Scan(&reason))
	require.Contains(t, reason, "NO_ROUTE")

	_, err := f.ch.QueueDeclare("not-there", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	f.empty(t)
	require.Equal(t, first, f.received(t, "not-there")[0].MessageId)
	require.Equal(t, second, f.received(t, "events")[0].MessageId)
}

func TestAMessageThatClosesTheChannelIsHeldBackAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m, err := messaging.NewMessage(kind, "poison")
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return outbox.Add(t.Context(), tx, "poison", messaging.Route{Exchange: "no such exchange"}, m)
	}))
	for n := range 400 { // enough to be still writing when the channel closes
		f.add(t, fmt.Sprint("key", n), "events", n)
	}
	_, _ = f.relay(t, publisher(t, f.conn))
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		waiting, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return waiting == 1 && held == 1, fmt.Sprintf("%d waiting, %d held back", waiting, held)
	})
}

func TestACrashBetweenConfirmAndCommitRepeatsTheSameMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	// The first commit that deletes from the outbox fails, after the confirm. A
	// sequence is not rolled back, so it fails just once.
	_, err := f.pool.Exec(t.Context(), `
		CREATE SEQUENCE crashes;
		CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF nextval(''crashes'') = 1 THEN RAISE ''crash''; END IF; RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER crash AFTER DELETE ON outbox DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION crash();`)
	require.NoError(t, err)
	id := f.add(t, "key", "events", 1)
	relay := outbox.NewRelay(f.pool, publisher(t, f.conn), zap.NewNop())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-done) }()
	f.empty(t)
	got := f.received(t, "events")
	require.Len(t, got, 2)
	for _, d := range got {
		require.Equal(t, id, d.MessageId)
	}
}

func TestAnOutageHoldsNothingBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	proxy := messagingtest.NewProxy(t, f.broker)
	config := f.broker.Config()
	config.URLs = []string{proxy.URL}
	conn := f.broker.Connect(t, config)
	proxy.Cut()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) { return conn.Ready() != nil, "still ready" })
	relay, stop := f.relay(t, publisher(t, conn))
	f.add(t, "key", "events", 1)
	relay.Wake()
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(15 * time.Second):
		t.Fatal("a relay without a broker does not stop")
	}
	waiting, held, err := outbox.Count(t.Context(), f.pool)
	require.NoError(t, err)
	require.EqualValues(t, 1, waiting)
	require.Zero(t, held)
}

func TestNothingIsLostWhenConnectionsDrop(t *testing.T) {
	t.Parallel()
	f := setup(t)
	want := map[string]bool{}
	for n := range 100 {
		want[f.add(t, fmt.Sprint("key", n%10), "events", n)] = true
	}
	relay, stop := f.relay(t, publisher(t, f.conn))
	f.broker.CloseAllConnections(t)
	for n := range 100 {
		want[f.add(t, fmt.Sprint("key", n%10), "events", n)] = true
		relay.Wake()
	}
	f.empty(t)
	stop()
	f.reopen(t) // ours was closed with the others
	for _, d := range f.received(t, "events") {
		delete(want, d.MessageId)
	}
	require.Empty(t, want)
}

func publisher(t *testing.T, conn *messaging.Conn, opts ...messaging.PublisherOption) *messaging.Publisher {
	t.Helper()
	p, err := conn.Publisher(opts...)
	require.NoError(t, err)
	return p
}
