package messaging_test

import (
	"context"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Names that are legal work, however odd or long they are.
func TestOddNamesWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Bestellungen/Größe 📦+?#%20&;,=", " ", "a b", "...", "~s~p{}[]^$.*|\\", `"quoted"`, "amq", "AMQ.x",
		strings.Repeat("x", 255), strings.Repeat("é", 127), "\u0085\u202e",
	} {
		t.Run(name[:min(len(name), 20)], func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			topology := messaging.Topology{
				Exchanges: []messaging.Exchange{{Name: name, Kind: messaging.Direct, Alternate: "lost"}, {Name: "lost", Kind: messaging.Fanout}},
				Queues:    []messaging.Queue{{Name: name, Type: messaging.Quorum, MaxLength: 5}},
				Bindings:  []messaging.Binding{{Source: name, Destination: name, Key: name}},
			}
			for range 2 {
				apply(t, b, topology)
			}
			conn := b.Connect(t, b.Config())
			sent := message(t, "x")
			require.NoError(t, publisher(t, conn).Publish(within(t, 20*time.Second), messaging.Route{Exchange: name, Key: name}, sent))
			handled := make(chan string, 1)
			_, err := conn.Consume(topology.Queues[0], messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				handled <- d.ID
				return nil
			}))
			require.NoError(t, err)
			require.Equal(t, sent.ID, next(t, handled))
			state, err := conn.QueueState(within(t, 20*time.Second), name)
			require.NoError(t, err)
			require.Equal(t, 1, state.Consumers)
		})
	}
}

// The longest times and the largest numbers that are let through: a queue that has them
// takes a message, gives it out and takes it back. Beyond ten years some kill the queue.
func TestTheLargestSettingsWork(t *testing.T) {
	t.Parallel()
	dead := &messaging.DeadLetter{Exchange: "dead", Key: "q"}
	for name, q := range map[string]messaging.Queue{
		"times of a quorum queue": {
			Type: messaging.Quorum, MessageTTL: tenYears, Expires: tenYears, ConsumerTimeout: tenYears, DisconnectedTimeout: tenYears,
		},
		"a delay":                   {Type: messaging.Quorum, Retry: messaging.Retry{MinDelay: time.Millisecond, MaxDelay: tenYears}},
		"times of a classic queue":  {Type: messaging.Classic, MessageTTL: tenYears, Expires: tenYears},
		"numbers of a quorum queue": {Type: messaging.Quorum, MaxLength: math.MaxInt64, MaxLengthBytes: math.MaxInt64, Retry: messaging.Retry{Limit: math.MaxInt64}, Overflow: messaging.RejectPublish, DeadLetter: dead},
		"numbers that no float has": {Type: messaging.Classic, MaxLength: 1<<53 + 1, MaxLengthBytes: 1<<53 + 1, MaxPriority: 255},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			q.Name = "q"
			apply(t, b, messaging.Topology{
				Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
				Queues:    []messaging.Queue{{Name: "q.dead", Type: messaging.Quorum}, q},
				Bindings:  []messaging.Binding{{Source: "dead", Destination: "q.dead", Key: "q"}},
			})
			conn := b.Connect(t, b.Config())
			sent := message(t, "x")
			sent.Expiration = tenYears
			require.NoError(t, publisher(t, conn).Publish(within(t, 20*time.Second), messaging.Route{Key: "q"}, sent))
			ch := raw(t, b)
			for range 2 {
				messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
					d, ok, err := ch.Get("q", false)
					require.NoError(t, err)
					if ok {
						require.NoError(t, d.Reject(true))
					}
					return ok, "empty"
				})
			}
		})
	}
}

// What a headers exchange compares is what was declared, and is found again.
func TestMatchValues(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	values := map[string]any{
		"int": 3_000_000_000, "uint": uint(7), "int8": int8(-7), "largest": int64(math.MaxInt64), "bool": false, "text": "ü\x00",
		"empty": "", "float": 1e-300, "whole": 5.0, "float32": float32(1.1), "given": nil, "list": []any{1, "a"}, "table": map[string]any{"n": 1},
	}
	topology := messaging.Topology{Exchanges: []messaging.Exchange{{Name: "x", Kind: messaging.Headers}}}
	for name, value := range values {
		topology.Queues = append(topology.Queues, messaging.Queue{Name: name, Type: messaging.Classic})
		topology.Bindings = append(topology.Bindings, messaging.Binding{Source: "x", Destination: name, Match: map[string]any{"x-match": "all", "v": value}})
	}
	for range 2 {
		apply(t, b, topology)
	}
	require.Equal(t, 3_000_000_000, values["int"], "what was given is as it was")
	p := publisher(t, b.Connect(t, b.Config()))
	for name, value := range values {
		m := message(t, "x")
		m.Headers = map[string]any{"v": value}
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: "x"}, m), name)
	}
	ch := raw(t, b)
	for name := range values {
		found := get(t, ch, name)
		require.NotNil(t, found)
		if name == "given" { // matches any value
			continue
		}
		_, more, err := ch.Get(name, true)
		require.NoError(t, err)
		require.False(t, more, name)
	}
}

// Where Validate sees a way for dead letters, the broker has one, and the other way round.
func TestDeadLetterRoutesAreTheBrokers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	p := publisher(t, conn)
	direct, topic := messaging.Direct, messaging.Topic
	to := func(key string) messaging.Binding {
		return messaging.Binding{Source: "dead", Destination: "q.dead", Key: key}
	}
	next := func(key string) messaging.Binding {
		return messaging.Binding{Source: "dead", Destination: "next", ToExchange: true, Key: key}
	}
	for _, c := range []struct {
		name      string
		kind      messaging.ExchangeKind
		key       string
		bindings  []messaging.Binding
		alternate string
		want      bool
	}{
		{"direct", direct, "q", []messaging.Binding{to("q")}, "", true},
		{"direct, another key", direct, "q", []messaging.Binding{to("q.")}, "", false},
		{"direct, no binding", direct, "q", nil, "", false},
		{"fanout", messaging.Fanout, "q", []messaging.Binding{to("other")}, "", true},
		{"fanout, no binding", messaging.Fanout, "q", nil, "", false},
		{"modulus hash", messaging.ModulusHash, "q", []messaging.Binding{to("")}, "", true},
		{"modulus hash, no binding", messaging.ModulusHash, "q", nil, "", false},
		{"topic, all", topic, "a.b", []messaging.Binding{to("#")}, "", true},
		{"topic, one word of two", topic, "a.b", []messaging.Binding{to("*")}, "", false},
		{"topic, two words", topic, "a.b", []messaging.Binding{to("*.*")}, "", true},
		{"topic, no word for a star", topic, "a", []messaging.Binding{to("a.*")}, "", false},
		{"topic, an empty word for a star", topic, "a.", []messaging.Binding{to("a.*")}, "", true},
		{"topic, no word for a hash", topic, "a", []messaging.Binding{to("a.#")}, "", true},
		{"topic, a hash within", topic, "a.x.y.b", []messaging.Binding{to("a.#.b")}, "", true},
		{"topic, two hashes", topic, "a.x.b.y", []messaging.Binding{to("#.b.#")}, "", true},
		{"topic, hashes and stars", topic, "a.b", []messaging.Binding{to("#.*.*.*")}, "", false},
		{"topic, half a word", topic, "ab", []messaging.Binding{to("a*")}, "", false},
		{"topic, the other case", topic, "A", []messaging.Binding{to("a")}, "", false},
		{"through another exchange", topic, "q.x", []messaging.Binding{next("q.#"), {Source: "next", Destination: "q.dead", Key: "q.x"}}, "", true},
		{"through another exchange to nowhere", topic, "q.x", []messaging.Binding{next("q.#"), {Source: "next", Destination: "q.dead", Key: "q.y"}}, "", false},
		{"in a circle", topic, "q", []messaging.Binding{next("#"), {Source: "next", Destination: "dead", ToExchange: true, Key: "q"}}, "", false},
		{"by the alternate exchange", direct, "q", []messaging.Binding{{Source: "lost", Destination: "q.dead"}}, "lost", true},
		{"by an alternate exchange to nowhere", direct, "q", nil, "lost", false},
		{"past the alternate exchange", direct, "q", []messaging.Binding{next("q"), {Source: "lost", Destination: "q.dead"}}, "lost", false},
	} {
		exchanges := []messaging.Exchange{{Name: "dead", Kind: c.kind, Alternate: c.alternate}, {Name: "next", Kind: direct}, {Name: "lost", Kind: messaging.Fanout}}
		queues := []messaging.Queue{{Name: "q.dead", Type: messaging.Classic}}
		without := messaging.Topology{Exchanges: exchanges, Queues: queues, Bindings: c.bindings}
		with := without
		with.Queues = append(with.Queues, messaging.Queue{Name: "q", Type: messaging.Classic, DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: c.key}})
		require.Equal(t, c.want, with.Validate() == nil, c.name)

		require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), without), c.name)
		ch := raw(t, b)
		_, err := ch.QueuePurge("q.dead", false)
		require.NoError(t, err)
		m := message(t, "x")
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: "dead", Key: c.key}, m, messaging.AllowUnroutable()), c.name)
		_, found, err := ch.Get("q.dead", true) // it was confirmed: it is there, or nowhere
		require.NoError(t, err)
		require.Equal(t, c.want, found, c.name)
		for _, x := range exchanges {
			b.Management(t, http.MethodDelete, "/api/exchanges/"+b.VHost+"/"+x.Name, nil, nil)
		}
		b.Management(t, http.MethodDelete, "/api/queues/"+b.VHost+"/q.dead", nil, nil)
	}
}
