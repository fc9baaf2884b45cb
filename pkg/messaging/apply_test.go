package messaging_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// adminOf is how tools reach the test's virtual host.
func adminOf(b *messagingtest.BrokerInfo) messaging.Admin {
	return messaging.Admin{AMQPURL: b.URL, ManagementURL: b.ManagementURL}
}

// apply applies a topology and checks that the broker then has it.
func apply(t *testing.T, b *messagingtest.BrokerInfo, topology messaging.Topology) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	require.NoError(t, messaging.Apply(ctx, adminOf(b), topology))
	differences, err := messaging.Verify(ctx, adminOf(b), topology)
	require.NoError(t, err)
	require.Empty(t, differences)
}

func put(t *testing.T, ch *amqp.Channel, exchange, key string, properties amqp.Publishing) {
	t.Helper()
	properties.DeliveryMode = amqp.Persistent
	confirmed, err := ch.PublishWithDeferredConfirmWithContext(within(t, 30*time.Second), exchange, key, true, false, properties)
	require.NoError(t, err)
	if confirmed != nil {
		ok, err := confirmed.WaitContext(within(t, 30*time.Second))
		require.NoError(t, err)
		require.True(t, ok, "nacked")
	}
}

func TestApplyTwice(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	require.NoError(t, ch.Confirm(false))
	apply(t, b, sample())
	put(t, ch, "events", "order.placed", amqp.Publishing{Body: []byte("kept")})
	apply(t, b, sample())
	require.Equal(t, "kept", string(get(t, ch, "work").Body))
}

func TestApplyChangesTunablesOfALiveQueue(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	require.NoError(t, ch.Confirm(false))
	topology := sample()
	apply(t, b, topology)
	require.NoError(t, ch.Qos(1, 0, false))
	deliveries, err := ch.Consume("work", "", false, false, false, false, nil)
	require.NoError(t, err)
	put(t, ch, "", "work", amqp.Publishing{Body: []byte("before")})
	first := next(t, deliveries)

	q := &topology.Queues[sampleWork]
	q.MaxLength, q.MaxLengthBytes, q.MessageTTL, q.Retry, q.ConsumerTimeout = 7, 0, 0, messaging.Retry{Limit: q.Retry.Limit}, time.Hour
	topology.Queues[sampleCalls].MaxLength, topology.Queues[sampleCalls].Overflow = 0, "" // its policy has nothing left to say
	topology.Exchanges[0].Alternate = ""
	apply(t, b, topology)

	require.NoError(t, first.Ack(false))
	put(t, ch, "", "work", amqp.Publishing{Body: []byte("after")})
	require.Equal(t, "after", string(next(t, deliveries).Body), "the consumer has lived through the change")
	_, err = ch.QueueDeclarePassive("work", true, false, false, false, nil)
	require.NoError(t, err)
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)

	t.Run("an invalid topology, before anything is sent", func(t *testing.T) {
		topology := sample()
		topology.Queues[sampleWork].Overflow = ""
		require.ErrorContains(t, messaging.Apply(within(t, 30*time.Second), adminOf(b), topology), `queue "work": Overflow`)
		_, err := messaging.Verify(within(t, 30*time.Second), adminOf(b), topology)
		require.ErrorContains(t, err, `queue "work": Overflow`)
		differences, err := messaging.Verify(within(t, 30*time.Second), adminOf(b), messaging.Topology{})
		require.NoError(t, err)
		require.Empty(t, differences, "the virtual host is still empty")
	})
	t.Run("what can never change", func(t *testing.T) {
		b := messagingtest.Broker(t)
		apply(t, b, sample())
		topology := sample()
		topology.Queues[sampleOrdered].SingleActiveConsumer = false
		err := messaging.Apply(within(t, 30*time.Second), adminOf(b), topology)
		require.ErrorContains(t, err, `queue "ordered": Exception (406)`)
		require.ErrorContains(t, err, "x-single-active-consumer")
	})
	for name, c := range map[string]struct {
		mutate func(*messaging.Admin)
		want   string
	}{
		"no AMQP URL":         {func(a *messaging.Admin) { a.AMQPURL = "http://u:secret@host" }, "AMQPURL: not an AMQP URL"},
		"no management URL":   {func(a *messaging.Admin) { a.ManagementURL = "u:secret@host" }, "ManagementURL: not an http or https URL"},
		"a wrong password":    {func(a *messaging.Admin) { a.User, a.Password = "admin", "secret" }, "403"},
		"a management of air": {func(a *messaging.Admin) { a.ManagementURL = "http://127.0.0.1:1" }, "GET /policies/" + b.VHost + ": dial tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			a := adminOf(b)
			c.mutate(&a)
			err := messaging.Apply(within(t, 30*time.Second), a, sample())
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("a management API that refuses", func(t *testing.T) {
		a := adminOf(b)
		a.User, a.Password = "admin", "secret"
		_, err := messaging.Verify(within(t, 30*time.Second), a, sample())
		require.ErrorContains(t, err, "verify topology: GET /policies/"+b.VHost+": management API answered 401 Unauthorized")
	})
}

// One order's messages must all meet in one queue, and orders must spread.
func TestModulusHashSpreads(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	topology := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "payments", Kind: messaging.Fanout}, {Name: "shards", Kind: messaging.ModulusHash}},
		Bindings:  []messaging.Binding{{Source: "payments", Destination: "shards", ToExchange: true}},
	}
	for i := range 4 {
		name := fmt.Sprintf("shard.%d", i)
		topology.Queues = append(topology.Queues, messaging.Queue{Name: name, Type: messaging.Quorum})
		topology.Bindings = append(topology.Bindings, messaging.Binding{Source: "shards", Destination: name})
	}
	apply(t, b, topology)

	ch := raw(t, b)
	require.NoError(t, ch.Confirm(false))
	const keys = 200
	for i := range 2 * keys {
		put(t, ch, "payments", fmt.Sprintf("order-%d", i%keys), amqp.Publishing{})
	}
	shardOf := map[string]string{}
	for _, q := range topology.Queues {
		var n int
		for {
			d, ok, err := ch.Get(q.Name, true)
			require.NoError(t, err)
			if !ok {
				break
			}
			n++
			if shard, seen := shardOf[d.RoutingKey]; seen {
				require.Equal(t, shard, q.Name, "key %s", d.RoutingKey)
			}
			shardOf[d.RoutingKey] = q.Name
		}
		require.InDelta(t, 2*keys/4, n, 50, q.Name)
	}
	require.Len(t, shardOf, keys)
}

// A dead letter without a target waits in its queue instead of being lost. This is
// what at-least-once means, and what the broker leaves out, with no more than a
// line in its log, when the queue's overflow is not reject-publish.
func TestDeadLettersAreAtLeastOnce(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	waiting := messaging.Queue{
		Name: "waiting", Type: messaging.Quorum, MessageTTL: 100 * time.Millisecond, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "waiting"},
	}
	topology := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{waiting, {Name: "waiting.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}},
		Bindings:  []messaging.Binding{{Source: "dead", Destination: "waiting.dead", Key: "waiting"}},
	}
	apply(t, b, topology)
	ch := raw(t, b)
	require.NoError(t, ch.QueueUnbind("waiting.dead", "waiting", "dead", nil))
	require.NoError(t, ch.Confirm(false))
	put(t, ch, "", "waiting", amqp.Publishing{MessageId: "m1"})
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		q, err := ch.QueueDeclarePassive("waiting", true, false, false, false, nil)
		require.NoError(t, err)
		return q.Messages == 0, fmt.Sprintf("%d are ready", q.Messages)
	})

	// The broker looks for a new route every three minutes, and at once when the
	// policy has changed; writing the same policy again is no change.
	topology.Queues[0].MaxLength = 1000
	apply(t, b, topology)

	d := get(t, ch, "waiting.dead")
	require.Equal(t, "m1", d.MessageId)
	require.Equal(t, "expired", d.Headers["x-first-death-reason"])
}

func TestDelayedRetryIsSpaced(t *testing.T) {
	t.Parallel()
	const minimum, limit = 300 * time.Millisecond, 3
	b := messagingtest.Broker(t)
	apply(t, b, messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
		Queues: []messaging.Queue{
			{Name: "work.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
			{
				Name: "work", Type: messaging.Quorum, Overflow: messaging.RejectPublish,
				Retry:      messaging.Retry{Limit: limit, MinDelay: minimum, MaxDelay: 2 * minimum},
				DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "work"},
			},
		},
		Bindings: []messaging.Binding{{Source: "dead", Destination: "work.dead", Key: "work"}},
	})
	ch := raw(t, b)
	require.NoError(t, ch.Confirm(false))
	deliveries, err := ch.Consume("work", "", false, false, false, false, nil)
	require.NoError(t, err)
	put(t, ch, "", "work", amqp.Publishing{})

	var rejected time.Time
	for attempt, wait := range []time.Duration{0, minimum, 2 * minimum, 2 * minimum} {
		d := next(t, deliveries)
		if attempt > 0 {
			waited := time.Since(rejected)
			require.GreaterOrEqual(t, waited, wait, "attempt %d", attempt+1)
			require.Less(t, waited, wait+5*time.Second, "attempt %d", attempt+1) // how late is a matter of the machine
			require.EqualValues(t, attempt, d.Headers["x-delivery-count"])
		}
		rejected = time.Now()
		require.NoError(t, d.Reject(true))
	}
	require.Equal(t, "delivery_limit", get(t, ch, "work.dead").Headers["x-first-death-reason"])
}

func TestApplyUsers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	apply(t, b, sample())
	user := messaging.User{Name: "u-" + uuid.NewString(), Write: "^(events)$", Read: "^(work)$", Tags: []string{"monitoring"}}
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/users/"+user.Name, nil, nil) })
	give := func(password string) {
		err := messaging.ApplyUsers(within(t, 30*time.Second), adminOf(b), []messaging.User{user},
			func(string) (string, error) { return password, nil })
		require.NoError(t, err)
	}
	give("first")

	conn, err := amqp.Dial(b.WithUser(t, user.Name, "first"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	channel := func(t *testing.T) *amqp.Channel {
		ch, err := conn.Channel()
		require.NoError(t, err)
		require.NoError(t, ch.Confirm(false))
		return ch
	}
	requireRefused := func(t *testing.T, err error) {
		t.Helper()
		var refused *amqp.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, amqp.AccessRefused, refused.Code)
	}
	t.Run("may write and read what is given", func(t *testing.T) {
		ch := channel(t)
		put(t, ch, "events", "order.placed", amqp.Publishing{})
		get(t, ch, "work")
	})
	t.Run("may not publish elsewhere", func(t *testing.T) {
		for _, exchange := range []string{"dead", ""} {
			ch := channel(t)
			closed := ch.NotifyClose(make(chan *amqp.Error, 1))
			require.NoError(t, ch.PublishWithContext(t.Context(), exchange, "work", false, false, amqp.Publishing{}))
			requireRefused(t, next(t, closed))
		}
	})
	t.Run("may not consume elsewhere", func(t *testing.T) {
		_, err := channel(t).Consume("work.dead", "", false, false, false, false, nil)
		requireRefused(t, err)
	})
	t.Run("may not declare", func(t *testing.T) {
		_, err := channel(t).QueueDeclare("mine", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		requireRefused(t, err)
	})
	t.Run("keeps its connection when the password changes", func(t *testing.T) {
		give("second")
		put(t, channel(t), "events", "order.placed", amqp.Publishing{})
		_, err := amqp.Dial(b.WithUser(t, user.Name, "first"))
		requireRefused(t, err)
	})
	t.Run("has other rights on the next channel when they change", func(t *testing.T) {
		user.Read = ""
		give("second")
		_, _, err := channel(t).Get("work", true)
		requireRefused(t, err)
		put(t, channel(t), "events", "order.placed", amqp.Publishing{})
	})
	t.Run("needs a password", func(t *testing.T) {
		for _, c := range []struct {
			err  error
			want string
		}{
			{nil, "must not be empty"},
			{errors.New("no such file"), "no such file"},
		} {
			err := messaging.ApplyUsers(within(t, 30*time.Second), adminOf(b), []messaging.User{user},
				func(string) (string, error) { return "", c.err })
			require.ErrorContains(t, err, fmt.Sprintf("apply user %q: password: %s", user.Name, c.want))
		}
	})
}
