package messaging_test

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// theirs are the entities of another team, which it has declared with arguments.
func theirs(t *testing.T, b *messagingtest.BrokerInfo) messaging.Topology {
	t.Helper()
	ch := raw(t, b)
	require.NoError(t, ch.ExchangeDeclare("theirs", "topic", true, false, false, false, nil))
	_, err := ch.QueueDeclare("their.jobs", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 7})
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind("their.jobs", "job", "theirs", false, nil))
	b.Management(t, "PUT", "/api/policies/"+b.VHost+"/their-policy", map[string]any{
		"pattern": "^their", "apply-to": "all", "definition": map[string]any{"max-length": 1000},
	}, nil)
	return messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "theirs", Kind: messaging.Topic, External: true}},
		Queues:    []messaging.Queue{{Name: "their.jobs", External: true, Type: messaging.Quorum, Retry: messaging.Retry{Limit: 7}, MaxLength: 1000}},
	}
}

// External entities are used and not changed.
func TestExternalEntities(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	topology := theirs(t, b)
	topology.Queues = append(topology.Queues, messaging.Queue{Name: "ours", Type: messaging.Quorum})
	topology.Bindings = []messaging.Binding{
		{Source: "theirs", Destination: "ours", Key: "#"},
		{Source: "amq.topic", Destination: "ours", Key: "ours"},
		{Source: "amq.headers", Destination: "ours", Match: map[string]any{"x-match": "any", "to": "us"}},
		{Source: "amq.fanout", Destination: "their.jobs"},
	}
	apply(t, b, topology) // and nothing differs: the policy and the binding are theirs
	conn := b.Connect(t, b.Config())
	p := publisher(t, conn)
	for _, exchange := range []string{"theirs", "amq.topic"} {
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: exchange, Key: "ours"}, message(t, exchange)))
		require.Equal(t, `"`+exchange+`"`, string(get(t, raw(t, b), "ours").Body))
	}
	user := ordinary(t, b)
	over := user.Connect(t, user.Config())
	require.NoError(t, over.Declare(within(t, time.Minute), messaging.Merge(theirs(t, b), messaging.Topology{
		Bindings: []messaging.Binding{{Source: "theirs", Destination: "their.jobs", Key: "declared"}},
	})))
}

// An external entity that is missing or differs from its description is refused before anything
// is made, and reported by Verify.
func TestExternalEntitiesThatDiffer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*messaging.Topology)
		want   messaging.Difference
	}{
		"no exchange":  {func(t *messaging.Topology) { t.Exchanges[0].Name = "gone" }, messaging.Difference{Entity: "exchange", Name: "gone", Want: "declared", Have: "missing"}},
		"another kind": {func(t *messaging.Topology) { t.Exchanges[0].Kind = messaging.Direct }, messaging.Difference{Entity: "exchange", Name: "theirs", Field: "type", Want: `"direct"`, Have: `"topic"`}},
		"no queue":     {func(t *messaging.Topology) { t.Queues[0].Name = "gone" }, messaging.Difference{Entity: "queue", Name: "gone", Want: "declared", Have: "missing"}},
		"another type": {func(t *messaging.Topology) {
			t.Queues[0].Type, t.Queues[0].Retry = messaging.Classic, messaging.Retry{}
		}, messaging.Difference{Entity: "queue", Name: "their.jobs", Field: "x-queue-type", Want: `"classic"`, Have: `"quorum"`}},
		"another limit":  {func(t *messaging.Topology) { t.Queues[0].Retry.Limit = 5 }, messaging.Difference{Entity: "queue", Name: "their.jobs", Field: "x-delivery-limit", Want: "5", Have: "7"}},
		"another policy": {func(t *messaging.Topology) { t.Queues[0].MaxLength = 5 }, messaging.Difference{Entity: "queue", Name: "their.jobs", Field: "x-max-length", Want: "5", Have: "1000"}},
		"no dead letters": {func(t *messaging.Topology) {
			t.Queues[0].DeadLetter = &messaging.DeadLetter{Key: "x", AtMostOnce: true}
		}, messaging.Difference{Entity: "queue", Name: "their.jobs", Field: "x-dead-letter-exchange", Want: `""`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			topology := theirs(t, b)
			topology.Queues = append(topology.Queues, messaging.Queue{Name: "ours", Type: messaging.Quorum})
			c.change(&topology)
			require.ErrorContains(t, messaging.Apply(within(t, time.Minute), b.Admin(), topology), "external "+c.want.String())
			differences, err := messaging.Verify(within(t, time.Minute), b.Admin(), topology)
			require.NoError(t, err)
			require.Contains(t, differences, c.want)
			require.Contains(t, differences, messaging.Difference{Entity: "queue", Name: "ours", Want: "declared", Have: "missing"})
		})
	}
}

// Arguments that have no field are declared, compared, and never changed.
func TestRawArguments(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	topology := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "x", Kind: messaging.Fanout, Arguments: map[string]any{"alternate-exchange": "amq.fanout", "x-note": "ours"}}},
		Queues:    []messaging.Queue{{Name: "q", Type: messaging.Quorum, Retry: messaging.Retry{Limit: 3}, Arguments: map[string]any{"x-quorum-initial-group-size": 1, "x-message-ttl": 60000}}},
	}
	apply(t, b, topology)
	topology.Queues[0].Arguments["x-message-ttl"] = 5
	differences, err := messaging.Verify(within(t, time.Minute), b.Admin(), topology)
	require.NoError(t, err)
	require.Equal(t, []messaging.Difference{{Entity: "queue", Name: "q", Field: "x-message-ttl", Want: "5", Have: "60000"}}, differences)
	require.ErrorContains(t, messaging.Apply(within(t, time.Minute), b.Admin(), topology), "x-message-ttl")
	topology.Queues[0].Arguments["x-message-ttl"] = 60000
	topology.Exchanges[0].Arguments["x-note"] = "theirs"
	differences, err = messaging.Verify(within(t, time.Minute), b.Admin(), topology)
	require.NoError(t, err)
	require.Equal(t, []messaging.Difference{{Entity: "exchange", Name: "x", Field: "x-note", Want: `"theirs"`, Have: `"ours"`}}, differences)
}

// Every exchange kind of the broker can be used. A kind that it does not have is an error that
// changes nothing.
func TestExchangeKindsOfTheBroker(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	apply(t, b, messaging.Topology{Exchanges: []messaging.Exchange{{Name: "x", Kind: "x-local-random"}}})
	_, jobs := messaging.WorkQueue("jobs", messaging.Retry{})
	jobs.Exchanges = []messaging.Exchange{{Name: "y", Kind: "x-delayed-message", Arguments: map[string]any{"x-delayed-type": "direct"}}}
	err := messaging.Apply(within(t, time.Minute), b.Admin(), jobs)
	require.ErrorContains(t, err, `exchange "y": kind: the broker does not have "x-delayed-message"`)
	var queues []any
	b.Management(t, "GET", "/api/queues/"+b.VHost, nil, &queues)
	require.Empty(t, queues, "nothing was made")
}
