package messaging_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

// The parts of two teams, of which one uses what the other one has.
func TestMergeJoinsTheTopologiesOfTeams(t *testing.T) {
	t.Parallel()
	dead := messaging.Exchange{Name: "dead", Kind: messaging.Direct}
	orders := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "orders", Kind: messaging.Topic, Alternate: "lost"}, {Name: "lost", Kind: messaging.Fanout}, dead},
		Queues:    []messaging.Queue{{Name: "expired", Type: messaging.Quorum, Retry: messaging.Retry{Limit: 5}}},
		Bindings:  []messaging.Binding{{Source: "orders", Destination: "expired", Key: "expired"}},
		Types:     []messaging.MessageType{{Name: "placed.v1", Exchange: "orders", Owner: "orders"}},
	}
	mails := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "orders", Kind: messaging.Topic, External: true}, dead},
		Queues: []messaging.Queue{
			{Name: "mails", Type: messaging.Quorum},
			{Name: "expired", External: true, Type: messaging.Quorum, Retry: messaging.Retry{Limit: 5}},
		},
		Bindings: []messaging.Binding{
			{Source: "orders", Destination: "mails", Key: "#"},
			{Source: "amq.topic", Destination: "mails", Key: "mails"},
			{Source: "orders", Destination: "expired", Key: "expired"},
		},
		Types: orders.Types,
	}
	require.NoError(t, orders.Validate())
	require.NoError(t, mails.Validate())
	for _, all := range []messaging.Topology{messaging.Merge(orders, mails), messaging.Merge(mails, orders), messaging.Merge(orders, mails, mails, orders)} {
		require.NoError(t, all.Validate())
		require.Len(t, all.Exchanges, 3)
		require.Len(t, all.Queues, 2)
		require.Len(t, all.Bindings, 3)
		require.Len(t, all.Types, 1)
		require.Contains(t, all.Exchanges, orders.Exchanges[0])
		require.Contains(t, all.Queues, orders.Queues[0])
	}
	require.Empty(t, mails.Exchanges[0].Alternate, "the parts stay as they are")
	require.True(t, mails.Exchanges[0].External, "the parts stay as they are")
}

func TestMergeNamesConflicts(t *testing.T) {
	t.Parallel()
	exchange := func(x messaging.Exchange) messaging.Topology {
		x.Name = "x"
		return messaging.Topology{Exchanges: []messaging.Exchange{x}}
	}
	queue := func(q messaging.Queue) messaging.Topology {
		q.Name = "q"
		return messaging.Topology{Queues: []messaging.Queue{q}}
	}
	for name, c := range map[string]struct {
		one, other messaging.Topology
		want       string
	}{
		"kinds": {exchange(messaging.Exchange{Kind: messaging.Topic}), exchange(messaging.Exchange{Kind: messaging.Direct}),
			`exchange "x": declared twice, with Kind topic and direct`},
		"the kind of another team": {exchange(messaging.Exchange{Kind: messaging.Topic}), exchange(messaging.Exchange{External: true, Kind: messaging.Direct}),
			`exchange "x": declared twice, with Kind topic and direct`},
		"settings": {queue(messaging.Queue{Type: messaging.Quorum, MaxLength: 10}), queue(messaging.Queue{Type: messaging.Quorum, MaxLength: 20, MessageTTL: time.Second}),
			`queue "q": declared twice, with MaxLength 10 and 20, MessageTTL 0s and 1s`},
		"retries": {queue(messaging.Queue{Type: messaging.Quorum}), queue(messaging.Queue{External: true, Retry: messaging.Retry{Limit: 5}, Type: messaging.Quorum}),
			`queue "q": declared twice, with Retry {Limit:0`},
		"arguments": {queue(messaging.Queue{Type: messaging.Quorum, Arguments: map[string]any{"x-a": 1}}), queue(messaging.Queue{Type: messaging.Quorum}),
			`queue "q": declared twice, with Arguments [x-a] and []`},
		"rights": {messaging.Topology{Users: []messaging.User{{Name: "u", Read: "a"}}}, messaging.Topology{Users: []messaging.User{{Name: "u", Read: "b"}}},
			`user "u": declared twice, with Read a and b`},
		"owners": {messaging.Topology{Types: []messaging.MessageType{{Name: "m", Owner: "a"}}}, messaging.Topology{Types: []messaging.MessageType{{Name: "m"}}},
			`message type "m": declared twice, with Owner a and ""`},
	} {
		require.ErrorContains(t, messaging.Merge(c.one, c.other).Validate(), c.want, name)
	}
}

func TestWorkQueueIsAWholeTopology(t *testing.T) {
	t.Parallel()
	retry := messaging.Retry{Limit: 2, MinDelay: time.Second, MaxDelay: time.Minute}
	jobs, topology := messaging.WorkQueue("jobs", retry)
	require.NoError(t, topology.Validate())
	require.Equal(t, "jobs", jobs.Name)
	require.Equal(t, retry, jobs.Retry)
	require.Equal(t, &messaging.DeadLetter{Key: "jobs.dead"}, jobs.DeadLetter)
	dead, found := topology.Queue("jobs.dead")
	require.True(t, found)
	require.Equal(t, messaging.Unlimited, dead.Retry.Limit, "what is looked at is not dropped")
}

func TestTopologyValidateOfPartsAndArguments(t *testing.T) {
	t.Parallel()
	exchange := func(x messaging.Exchange) messaging.Topology {
		return messaging.Topology{Exchanges: []messaging.Exchange{x}}
	}
	queue := func(q messaging.Queue) messaging.Topology { return messaging.Topology{Queues: []messaging.Queue{q}} }
	bound := func(x messaging.Exchange, b messaging.Binding) messaging.Topology {
		b.Source, b.Destination = x.Name, "q"
		return messaging.Topology{Exchanges: []messaging.Exchange{x}, Queues: []messaging.Queue{{Name: "q", Type: messaging.Classic}}, Bindings: []messaging.Binding{b}}
	}
	match := map[string]any{"x-match": "all", "a": 1}
	for name, c := range map[string]struct {
		topology messaging.Topology
		want     string // empty where it is valid
	}{
		"a plugin's kind":             {exchange(messaging.Exchange{Name: "x", Kind: "x-delayed-message", Arguments: map[string]any{"x-delayed-type": "direct"}}), ""},
		"a plugin's binding":          {bound(messaging.Exchange{Name: "x", Kind: "x-some"}, messaging.Binding{Match: map[string]any{"weight": 5}}), ""},
		"a kind of two lines":         {exchange(messaging.Exchange{Name: "x", Kind: "a\nb"}), `exchange "x": Kind: holds a control character`},
		"an external of no kind":      {exchange(messaging.Exchange{Name: "x", External: true}), ""},
		"an external of the broker":   {exchange(messaging.Exchange{Name: "amq.rabbitmq.log", External: true}), ""},
		"an external with settings":   {exchange(messaging.Exchange{Name: "x", External: true, Alternate: "amq.fanout"}), `exchange "x": External: somebody else sets`},
		"an alternate of the broker":  {exchange(messaging.Exchange{Name: "x", Kind: messaging.Direct, Alternate: "amq.fanout"}), ""},
		"two alternates":              {exchange(messaging.Exchange{Name: "x", Kind: messaging.Direct, Alternate: "amq.fanout", Arguments: map[string]any{"alternate-exchange": "y"}}), `Arguments: "alternate-exchange": there is a field for this argument`},
		"an argument that is no type": {exchange(messaging.Exchange{Name: "x", Kind: messaging.Direct, Arguments: map[string]any{"x-a": struct{}{}}}), `exchange "x": Arguments: "x-a": AMQP has no type`},
		"arguments of a queue":        {queue(messaging.Queue{Name: "q", Type: messaging.Quorum, Arguments: map[string]any{"x-quorum-initial-group-size": 3}}), ""},
		"an argument as well":         {queue(messaging.Queue{Name: "q", Type: messaging.Quorum, MessageTTL: time.Second, Arguments: map[string]any{"x-message-ttl": 5}}), `queue "q": Arguments: "x-message-ttl": there is a field for this argument`},
		"the type as well":            {queue(messaging.Queue{Name: "q", Type: messaging.Quorum, Arguments: map[string]any{"x-queue-type": "classic"}}), `queue "q": Arguments: "x-queue-type": there is a field`},
		"a number that is none":       {queue(messaging.Queue{Name: "q", Type: messaging.Quorum, Arguments: map[string]any{"x-a": math.NaN()}}), `queue "q": Arguments: "x-a": NaN`},
		"an external queue":           {queue(messaging.Queue{Name: "amq.theirs", External: true}), ""},
		"and its dead letters":        {queue(messaging.Queue{Name: "q", External: true, Type: messaging.Quorum, DeadLetter: &messaging.DeadLetter{Exchange: "theirs", Key: "q"}}), ""},
		"and its arguments":           {queue(messaging.Queue{Name: "q", External: true, Arguments: map[string]any{"x-a": 1}}), `queue "q": Arguments: are somebody else's`},
		"an external headers":         {bound(messaging.Exchange{Name: "x", Kind: messaging.Headers, External: true}, messaging.Binding{}), "Match: x-match must be"},
		"an external unknown":         {bound(messaging.Exchange{Name: "x", External: true}, messaging.Binding{Match: match}), ""},
		"an external fanout":          {bound(messaging.Exchange{Name: "x", Kind: messaging.Fanout, External: true}, messaging.Binding{Match: match}), "Match: only a headers exchange"},
		"dead letters to nobody":      {queue(messaging.Queue{Name: "q", Type: messaging.Classic, DeadLetter: &messaging.DeadLetter{Key: "gone"}}), `queue "q": DeadLetter.Key: no queue "gone"`},
		"dead letters to a queue":     {queue(messaging.Queue{Name: "q", Type: messaging.Classic, DeadLetter: &messaging.DeadLetter{Key: "q"}}), ""},
	} {
		if err := c.topology.Validate(); c.want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.want, name)
		}
	}
}
