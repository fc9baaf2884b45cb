package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	const plain, permanent, unavailable = "plain", "permanent", "unavailable"
	code := func(code string) error { return fmt.Errorf("record: %w", &pgconn.PgError{Code: code}) }
	for want, errs := range map[string][]error{
		plain: {
			errors.New("any"), context.Canceled, code("40001"), code("40P01"), code("23505"), code("42P01"), code("25P02"), code(""),
		},
		permanent: {
			code("22021"), code("22P05"), code("22003"), code("54000"), messaging.Permanent(io.EOF),
		},
		unavailable: {
			code("08006"), code("53300"), code("57P01"), code("57P03"), code("58030"), code("25006"),
			io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed, &pgconn.ConnectError{}, context.DeadlineExceeded, messaging.Unavailable(errors.New("any")),
		},
	} {
		for _, err := range errs {
			got := plain
			switch verdict := inbox.Verdict(err); {
			case messaging.IsPermanent(verdict):
				got = permanent
			case messaging.IsUnavailable(verdict):
				got = unavailable
			}
			require.Equal(t, want, got, "%T %v", err, err)
		}
	}
	require.NoError(t, inbox.Verdict(nil))
}

// An id that no database takes is parked at once; the queue that keeps order goes on.
func TestAnIDThatNoDatabaseTakes(t *testing.T) {
	t.Parallel()
	pool := newInbox(t)
	b := messagingtest.Broker(t)
	queue := messaging.Queue{
		Name: "shard", Type: messaging.Quorum, SingleActiveConsumer: true, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: "shard"},
	}
	require.NoError(t, messaging.Apply(t.Context(), b.Admin(), messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead.letters", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{{Name: "shard.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}, queue},
		Bindings:  []messaging.Binding{{Source: "dead.letters", Destination: "shard.dead", Key: "shard"}},
	}))
	client, err := amqp.Dial(b.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	ch, err := client.Channel()
	require.NoError(t, err)
	for _, id := range []string{"a\x00b", "a\xffb", "good"} { // as another library sends them
		require.NoError(t, ch.PublishWithContext(t.Context(), "", "shard", false, false, amqp.Publishing{MessageId: id}))
	}
	good := make(chan time.Time, 1)
	began := time.Now()
	_, err = b.Connect(t, b.Config()).Consume(queue, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := inbox.Record(ctx, tx, d.Queue, d.ID)
			return err
		})
		if err == nil {
			good <- time.Now()
		}
		return err
	}))
	require.NoError(t, err)
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		n := b.Unsettled(t, "shard.dead")
		return n == 2 && len(good) == 1, fmt.Sprint(n, " are parked")
	})
	require.Less(t, (<-good).Sub(began), 30*time.Second, "no try in place has begun")
}
