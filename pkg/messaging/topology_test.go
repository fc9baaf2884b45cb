package messaging_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

// sample has one of everything that a topology can have, and is valid.
func sample() messaging.Topology {
	return messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: "events", Kind: messaging.Topic, Alternate: "lost"},
			{Name: "filtered", Kind: messaging.Headers},
			{Name: "dead", Kind: messaging.Direct},
			{Name: "lost", Kind: messaging.Fanout},
			{Name: "inner", Kind: messaging.Topic, Internal: true, AutoDelete: true},
		},
		Queues: []messaging.Queue{
			{
				Name: "work", Type: messaging.Quorum, MaxLength: 1000, MaxLengthBytes: 1 << 20, Overflow: messaging.RejectPublish,
				MessageTTL: time.Minute, ConsumerTimeout: 5 * time.Minute, DisconnectedTimeout: 5 * time.Second,
				Retry:      messaging.Retry{Limit: 5, MinDelay: time.Second, MaxDelay: 30 * time.Second},
				DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "work"},
			},
			{Name: "ordered", Type: messaging.Quorum, SingleActiveConsumer: true},
			{Name: "calls", Type: messaging.Classic, MaxLength: 10, Overflow: messaging.DropHead},
			{Name: "log", Type: messaging.Stream, MaxAge: time.Hour},
			{Name: "work.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
			{Name: "lost", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
		},
		Bindings: []messaging.Binding{
			{Source: "events", Destination: "work", Key: "order.#"},
			{Source: "events", Destination: "filtered", ToExchange: true, Key: "#"},
			{Source: "filtered", Destination: "calls", Match: map[string]any{"x-match": "any", "channel": "email"}},
			{Source: "events", Destination: "log", Key: "#"},
			{Source: "events", Destination: "inner", ToExchange: true, Key: "#"},
			{Source: "inner", Destination: "ordered", Key: "order.#"},
			{Source: "dead", Destination: "work.dead", Key: "work"},
			{Source: "lost", Destination: "lost"},
		},
	}
}

const tenYears = 10 * 365 * 24 * time.Hour

// Where the queues are in the sample.
const (
	sampleWork = iota
	sampleOrdered
	sampleCalls
	sampleLog
)

func TestTopologyValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, sample().Validate())

	queue := changedQueue
	refuseTopologies(t, []badTopology{
		{"an exchange without a name", func(t *messaging.Topology) { t.Exchanges[1].Name = "" }, "exchange: Name:"},
		{"an exchange of no kind", func(t *messaging.Topology) { t.Exchanges[1].Kind = "" }, `exchange "filtered": Kind:`},
		{"an exchange twice", func(t *messaging.Topology) { t.Exchanges[1].Name = "events" }, `exchange "events": declared twice`},
		{"an alternate that is not there", func(t *messaging.Topology) { t.Exchanges[0].Alternate = "gone" }, `exchange "events": Alternate: no exchange "gone"`},
		{"a queue twice", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "work" }), `queue "work": declared twice`},
		{"a queue without a name", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "" }), `queue "": Name:`},
		{"a queue of no type", queue(sampleOrdered, func(q *messaging.Queue) { q.Type = "" }), `queue "ordered": Type:`},
		{"an exclusive queue", queue(sampleCalls, func(q *messaging.Queue) { q.Exclusive = true }), `queue "calls": Exclusive:`},
		{"an exclusive quorum queue", queue(sampleOrdered, func(q *messaging.Queue) { q.Exclusive = true }), "only a classic queue can be exclusive"},
		{"a single active consumer of a stream", queue(sampleLog, func(q *messaging.Queue) { q.SingleActiveConsumer = true }), `queue "log": SingleActiveConsumer:`},
		{"a negative length", queue(sampleWork, func(q *messaging.Queue) { q.MaxLength = -1 }), `queue "work": MaxLength:`},
		{"a length of a stream", queue(sampleLog, func(q *messaging.Queue) { q.MaxLength = 10 }), `queue "log": MaxLength: a stream is bounded by`},
		{"a negative size", queue(sampleWork, func(q *messaging.Queue) { q.MaxLengthBytes = -1 }), `queue "work": MaxLengthBytes:`},
		{"an overflow of no kind", queue(sampleCalls, func(q *messaging.Queue) { q.Overflow = "spill" }), `queue "calls": Overflow:`},
		{"an overflow of a stream", queue(sampleLog, func(q *messaging.Queue) { q.Overflow = messaging.DropHead }), `queue "log": Overflow:`},
		{"a full quorum queue that dead-letters what is new", queue(sampleWork, func(q *messaging.Queue) { q.Overflow = messaging.RejectPublishDLX }), `queue "work": Overflow: reject-publish-dlx is for classic queues`},
		{"a quorum queue that goes with its last consumer", queue(sampleOrdered, func(q *messaging.Queue) { q.AutoDelete = true }), `queue "ordered": AutoDelete: only on a classic queue`},
		{"an exclusive queue that goes with its last consumer", queue(sampleCalls, func(q *messaging.Queue) { q.Exclusive, q.AutoDelete = true, true }), `queue "calls": AutoDelete: an exclusive queue`},
		{"priorities of a quorum queue", queue(sampleOrdered, func(q *messaging.Queue) { q.MaxPriority = 10 }), `queue "ordered": MaxPriority: only on a classic queue`},
		{"priorities of a stream", queue(sampleLog, func(q *messaging.Queue) { q.MaxPriority = 10 }), `queue "log": MaxPriority:`},
		{"a queue that expires before 1 ms", queue(sampleCalls, func(q *messaging.Queue) { q.Expires = time.Microsecond }), `queue "calls": Expires:`},
		{"a queue that expires before it is there", queue(sampleCalls, func(q *messaging.Queue) { q.Expires = -time.Second }), `queue "calls": Expires:`},
		{"a stream that expires", queue(sampleLog, func(q *messaging.Queue) { q.Expires = time.Hour }), `queue "log": Expires:`},
		{"a leader of no place", queue(sampleOrdered, func(q *messaging.Queue) { q.LeaderLocator = "here" }), `queue "ordered": LeaderLocator: unknown locator "here"`},
		{"a leader of a classic queue", queue(sampleCalls, func(q *messaging.Queue) { q.LeaderLocator = messaging.Balanced }), `queue "calls": LeaderLocator: not on a classic queue`},
		{"a time to live below 1 ms", queue(sampleWork, func(q *messaging.Queue) { q.MessageTTL = time.Microsecond }), `queue "work": MessageTTL:`},
		{"a time to live in a stream", queue(sampleLog, func(q *messaging.Queue) { q.MessageTTL = time.Second }), `queue "log": MessageTTL:`},
		{"a delivery limit below -1", queue(sampleWork, func(q *messaging.Queue) { q.Retry.Limit = -2 }), `queue "work": Retry.Limit:`},
		{"retries of a stream", queue(sampleLog, func(q *messaging.Queue) { q.Retry.Limit = 5 }), `queue "log": Retry: not on a stream`},
		{"a delay without a least one", queue(sampleWork, func(q *messaging.Queue) { q.Retry.MinDelay = 0 }), `queue "work": Retry.MinDelay: wants`},
		{"a delay from more to less", queue(sampleWork, func(q *messaging.Queue) { q.Retry.MaxDelay = time.Millisecond }), `queue "work": Retry.MinDelay: wants`},
		{"dead letters of a stream", queue(sampleLog, func(q *messaging.Queue) {
			q.DeadLetter = &messaging.DeadLetter{Exchange: "dead", Key: "log"}
		}), `queue "log": DeadLetter:`},
		{"dead letters without a key", queue(sampleWork, func(q *messaging.Queue) { q.DeadLetter.Key = "" }), `queue "work": DeadLetter:`},
		{"dead letters to nowhere", queue(sampleWork, func(q *messaging.Queue) { q.DeadLetter.Exchange = "gone" }), `queue "work": DeadLetter.Exchange: no exchange "gone"`},
		{"dead letters that would be at most once", queue(sampleWork, func(q *messaging.Queue) { q.Overflow = messaging.DropHead }), "falls back to at-most-once"},
		{"a negative consumer timeout", queue(sampleWork, func(q *messaging.Queue) { q.ConsumerTimeout = -1 }), `queue "work": ConsumerTimeout:`},
		{"a consumer timeout of a classic queue", queue(sampleCalls, func(q *messaging.Queue) { q.ConsumerTimeout = time.Minute }), `queue "calls": ConsumerTimeout:`},
		{"a negative wait for a node", queue(sampleWork, func(q *messaging.Queue) { q.DisconnectedTimeout = -1 }), `queue "work": DisconnectedTimeout:`},
		{"a wait for a node of a classic queue", queue(sampleCalls, func(q *messaging.Queue) { q.DisconnectedTimeout = time.Second }), `queue "calls": DisconnectedTimeout:`},
		{"an age outside of a stream", queue(sampleWork, func(q *messaging.Queue) { q.MaxAge = time.Hour }), `queue "work": MaxAge:`},
		{"an age in fractions of a second", queue(sampleLog, func(q *messaging.Queue) { q.MaxAge = 1500 * time.Millisecond }), `queue "log": MaxAge: whole seconds`},
	})
}

func TestTopologyValidateNamesAndBounds(t *testing.T) {
	t.Parallel()
	queue := changedQueue
	refuseTopologies(t, []badTopology{
		{"a queue with a long name", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = strings.Repeat("q", 256) }), `Name: has 256 bytes, AMQP allows 255`},
		{"a queue with a name that is not UTF-8", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "caf\xe9" }), `queue "caf\xe9": Name: is not UTF-8`},
		{"a queue with a name of two lines", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "a\nb" }), `queue "a\nb": Name: holds a control character`},
		{"a queue with a zero byte in its name", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "a\x00b" }), `Name: holds a zero byte`},
		{"a queue of which no URL speaks", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = ".." }), `queue "..": Name: cannot be part of a URL`},
		{"a queue with the broker's name", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "amq.mine" }), `queue "amq.mine": Name: names that begin with "amq." are`},
		{"a time to live beyond ten years", queue(sampleWork, func(q *messaging.Queue) { q.MessageTTL = tenYears + time.Millisecond }), `queue "work": MessageTTL: the broker accepts at most`},
		{"a time to live with a fraction of 1 ms", queue(sampleWork, func(q *messaging.Queue) { q.MessageTTL = time.Second + 1 }), `queue "work": MessageTTL: must be whole milliseconds`},
		{"a consumer timeout beyond ten years", queue(sampleWork, func(q *messaging.Queue) { q.ConsumerTimeout = tenYears * 2 }), `queue "work": ConsumerTimeout: the broker accepts at most`},
		{"a consumer timeout below 1 ms", queue(sampleWork, func(q *messaging.Queue) { q.ConsumerTimeout = 500 * time.Microsecond }), `queue "work": ConsumerTimeout: must be whole milliseconds`},
		{"a wait for a node beyond ten years", queue(sampleWork, func(q *messaging.Queue) { q.DisconnectedTimeout = tenYears * 2 }), `queue "work": DisconnectedTimeout: the broker accepts at most`},
		{"a queue that expires beyond ten years", queue(sampleCalls, func(q *messaging.Queue) { q.Expires = tenYears * 2 }), `queue "calls": Expires: the broker accepts at most`},
		{"a delay beyond ten years", queue(sampleWork, func(q *messaging.Queue) { q.Retry.MaxDelay = tenYears * 2 }), `queue "work": Retry.MaxDelay: the broker accepts at most`},
		{"a delay with a fraction of 1 ms", queue(sampleWork, func(q *messaging.Queue) { q.Retry.MinDelay = time.Millisecond + 1 }), `queue "work": Retry.MinDelay: must be whole milliseconds`},
		{"dead letters with a long key", queue(sampleWork, func(q *messaging.Queue) { q.DeadLetter.Key = strings.Repeat("k", 256) }), `queue "work": DeadLetter.Key: has 256 bytes`},
		{"dead letters that no queue gets", queue(sampleWork, func(q *messaging.Queue) { q.DeadLetter.Key = "nobody" }), `queue "work": DeadLetter.Key: no queue gets what exchange "dead" has with key "nobody"`},
		{"dead letters that a consumer cannot publish", func(t *messaging.Topology) { t.Exchanges[2].Internal = true }, `queue "work": DeadLetter.Exchange: exchange "dead" is internal`},
		{"an exchange with a long name", func(t *messaging.Topology) { t.Exchanges[1].Name = strings.Repeat("x", 256) }, `Name: has 256 bytes`},
		{"an exchange with the broker's name", func(t *messaging.Topology) { t.Exchanges[1].Name = "amq.topic" }, `exchange "amq.topic": Name: names that begin`},
		{"an exchange with a name of two lines", func(t *messaging.Topology) { t.Exchanges[1].Name = "a\r" }, `Name: holds a control character`},
		{"two policies of one name", queue(sampleOrdered, func(q *messaging.Queue) { q.Name = "exchange:events" }), `policy "exchange:events": two have this name`},
		{"a binding with a long key", func(t *messaging.Topology) { t.Bindings[0].Key = strings.Repeat("k", 256) }, `binding events -> work: Key: has 256 bytes`},
		{"a binding with a key that is not UTF-8", func(t *messaging.Topology) { t.Bindings[0].Key = "\xff" }, `binding events -> work: Key: is not UTF-8`},
		{"a binding that matches by a time", func(t *messaging.Topology) { t.Bindings[2].Match["at"] = time.Now() }, `Match: "at": the broker never finds two times equal`},
		{"a binding that matches by bytes", func(t *messaging.Topology) { t.Bindings[2].Match["b"] = []byte("b") }, `Match: "b": bytes cannot be told`},
		{"a binding that matches by a number of no size", func(t *messaging.Topology) { t.Bindings[2].Match["n"] = uint64(1 << 63) }, `Match: "n": 9223372036854775808 is more than`},
		{"a binding that matches by a type of ours", func(t *messaging.Topology) { t.Bindings[2].Match["n"] = messaging.Quorum }, `Match: "n": AMQP has no type for a messaging.QueueType`},
		{"a user of no name", func(t *messaging.Topology) { t.Users = []messaging.User{{}} }, `user "": Name: must not be empty`},
		{"a user twice", func(t *messaging.Topology) { t.Users = []messaging.User{{Name: "u"}, {Name: "u"}} }, `user "u": declared twice`},
		{"a type with a long name", func(t *messaging.Topology) { t.Types = []messaging.MessageType{{Name: strings.Repeat("t", 256)}} }, `Name: has 256 bytes`},
		{"a binding from nowhere", func(t *messaging.Topology) { t.Bindings[0].Source = "gone" }, `binding gone -> work: Source:`},
		{"a binding to nowhere", func(t *messaging.Topology) { t.Bindings[0].Destination = "gone" }, `binding events -> gone: Destination:`},
		{"a binding to a queue that should be an exchange", func(t *messaging.Topology) { t.Bindings[0].ToExchange = true }, `binding events -> work: Destination:`},
		{"a binding from the default exchange", func(t *messaging.Topology) { t.Bindings[0].Source = "" }, `binding  -> work: Source: the default exchange`},
		{"a binding that matches nothing", func(t *messaging.Topology) { t.Bindings[2].Match = nil }, `binding filtered -> calls: Match: x-match must be all, any, all-with-x or any-with-x: a headers exchange needs it`},
		{"a binding that does not say how to match", func(t *messaging.Topology) { delete(t.Bindings[2].Match, "x-match") }, `binding filtered -> calls: Match: x-match must be all`},
		{"a binding that matches in no known way", func(t *messaging.Topology) { t.Bindings[2].Match["x-match"] = "some" }, `binding filtered -> calls: Match: x-match must be all`},
		{"a binding that matches by a number", func(t *messaging.Topology) { t.Bindings[2].Match["x-match"] = 1 }, `binding filtered -> calls: Match: x-match must be all`},
		{"a binding that matches where nobody looks", func(t *messaging.Topology) { t.Bindings[0].Match = map[string]any{"x-match": "all"} }, `binding events -> work: Match: only a headers exchange`},
	})
}

// badTopology is the sample with a change, and what its error must say.
type badTopology struct {
	name   string
	mutate func(*messaging.Topology)
	want   string
}

// changedQueue changes one queue of the sample.
func changedQueue(i int, mutate func(*messaging.Queue)) func(*messaging.Topology) {
	return func(t *messaging.Topology) { mutate(&t.Queues[i]) }
}

func refuseTopologies(t *testing.T, list []badTopology) {
	t.Helper()
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topology := sample()
			c.mutate(&topology)
			require.ErrorContains(t, topology.Validate(), c.want)
		})
	}
}

func TestMergeAndQueue(t *testing.T) {
	t.Parallel()
	other := messaging.Topology{
		Queues: []messaging.Queue{{Name: "more", Type: messaging.Quorum}},
		Users:  []messaging.User{{Name: "u"}},
		Types:  []messaging.MessageType{work},
	}
	all := messaging.Merge(sample(), other)
	require.NoError(t, all.Validate())
	require.Len(t, all.Queues, len(sample().Queues)+1)
	require.Equal(t, other.Users, all.Users)
	require.Equal(t, other.Types, all.Types)
	q, ok := all.Queue("more")
	require.True(t, ok)
	require.Equal(t, other.Queues[0], q)
	_, ok = all.Queue("gone")
	require.False(t, ok)
}
