package messaging_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// definitions gives all entities of a virtual host: exchanges, queues, bindings, policies.
func definitions(t *testing.T, b *messagingtest.BrokerInfo) map[string]any {
	t.Helper()
	var all map[string]any
	b.Management(t, http.MethodGet, "/api/definitions/"+b.VHost, nil, &all)
	return all
}

// A refused Apply leaves the broker as it was, whatever it would have changed first.
func TestARefusedApplyChangesNothing(t *testing.T) {
	t.Parallel()
	policy := func(t *testing.T, b *messagingtest.BrokerInfo, name, pattern string, priority int) {
		t.Helper()
		b.Management(t, http.MethodPut, "/api/policies/"+b.VHost+"/"+url.PathEscape(name), map[string]any{
			"pattern": pattern, "apply-to": "all", "priority": priority, "definition": map[string]any{"max-length": 3},
		}, nil)
	}
	for _, c := range []struct {
		name   string
		before func(t *testing.T, b *messagingtest.BrokerInfo)
		mutate func(*messaging.Topology)
		want   string
	}{
		{"another type of a queue", nil, func(t *messaging.Topology) { t.Queues[sampleOrdered].Type = messaging.Classic }, `queue "ordered": Exception (406)`},
		{"a queue that keeps no order", nil, func(t *messaging.Topology) { t.Queues[sampleOrdered].SingleActiveConsumer = false }, "x-single-active-consumer"},
		{"a queue with priorities", nil, func(t *messaging.Topology) { t.Queues[sampleCalls].MaxPriority = 3 }, "x-max-priority"},
		{"a queue that goes with its consumer", nil, func(t *messaging.Topology) { t.Queues[sampleCalls].AutoDelete = true }, "auto_delete"},
		{"another kind of an exchange", nil, func(t *messaging.Topology) { t.Exchanges[0].Kind = messaging.Fanout }, `exchange "events": Exception (406)`},
		{"an exchange that takes less", nil, func(t *messaging.Topology) { t.Exchanges[0].Internal = true }, "internal"},
		{"an exchange that goes", nil, func(t *messaging.Topology) { t.Exchanges[0].AutoDelete = true }, "auto_delete"},
		{"dead letters to nowhere", nil, func(t *messaging.Topology) { t.Queues[sampleWork].DeadLetter.Key = "nobody" }, `queue "work": DeadLetter.Key: no queue`},
		{
			"somebody's policy for all queues, of a name of ours",
			func(t *testing.T, b *messagingtest.BrokerInfo) { policy(t, b, "added", ".*", 0) },
			func(*messaging.Topology) {},
			`policy "added": Apply has not written the one of that name that is there (pattern ".*", priority 0)`,
		},
		{
			"somebody's policy for our queue, of its name",
			func(t *testing.T, b *messagingtest.BrokerInfo) { policy(t, b, "ordered", "^ordered$", 1) },
			func(t *messaging.Topology) { t.Queues[sampleOrdered].MaxLength = 5 },
			`policy "ordered": Apply has not written`,
		},
		{
			"somebody's policy of the name that an exchange's has",
			func(t *testing.T, b *messagingtest.BrokerInfo) { policy(t, b, "exchange:dead", "^dead", 10) },
			func(t *messaging.Topology) { t.Exchanges[2].Alternate = "lost" },
			`policy "exchange:dead": Apply has not written`,
		},
		{
			"a policy that the broker refuses", nil, // the plugin is not enabled
			func(t *messaging.Topology) {
				t.Exchanges = append(t.Exchanges, messaging.Exchange{Name: "first", Kind: messaging.Topic, Alternate: "lost"},
					messaging.Exchange{Name: "regions", Kind: messaging.Topic, Federated: true})
			},
			"PUT /policies/",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), sample()))
			if c.before != nil {
				c.before(t, b)
			}
			before := definitions(t, b)
			topology := sample()
			topology.Queues[sampleWork].MaxLength = 7
			topology.Exchanges[0].Alternate = ""
			topology.Queues = append(topology.Queues, messaging.Queue{Name: "added", Type: messaging.Quorum, MaxLength: 1})
			topology.Bindings = append(topology.Bindings, messaging.Binding{Source: "events", Destination: "added", Key: "#"})
			c.mutate(&topology)
			require.ErrorContains(t, messaging.Apply(within(t, time.Minute), b.Admin(), topology), c.want)
			require.Equal(t, before, definitions(t, b))
		})
	}
}

// The policies of existing entities change last. When the broker refuses one of them the others
// are restored; the new entities exist by then.
func TestARefusedPolicyPutsTheOthersBack(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), sample()))
	before := definitions(t, b)["policies"]
	topology := sample()
	topology.Exchanges[0].Alternate = ""     // to be deleted
	topology.Exchanges[1].Alternate = "lost" // to be written
	topology.Exchanges[2].Federated = true   // refused: the plugin is not enabled
	topology.Queues[sampleWork].MaxLength = 7
	err := messaging.Apply(within(t, time.Minute), b.Admin(), topology)
	require.ErrorContains(t, err, "PUT /policies/")
	require.ErrorContains(t, err, "400")
	require.ElementsMatch(t, before, definitions(t, b)["policies"])
}

// Apply leaves policies alone that it has not written, also one with the name that ours would
// have if it had settings.
func TestApplyLeavesOthersPoliciesAlone(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	for _, name := range []string{"q", "other"} {
		b.Management(t, http.MethodPut, "/api/policies/"+b.VHost+"/"+name, map[string]any{
			"pattern": "^q", "apply-to": "queues", "priority": 0, "definition": map[string]any{"max-length": 3},
		}, nil)
	}
	before := definitions(t, b)["policies"]
	topology := messaging.Topology{Queues: []messaging.Queue{{Name: "q", Type: messaging.Quorum}}}
	for range 2 {
		require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), topology))
	}
	require.Equal(t, before, definitions(t, b)["policies"])
}

// Entities that an Apply has made before its context ended are complete, and the next Apply
// makes the rest.
func TestAnApplyThatEndsEarlyLeavesNoQueueWithoutItsSettings(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	done := false
	for limit := 20 * time.Millisecond; !done; limit += limit / 4 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := messaging.Apply(ctx, b.Admin(), sample())
		cancel()
		if done = err == nil; !done {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		differences, err := messaging.Verify(within(t, time.Minute), b.Admin(), sample())
		require.NoError(t, err)
		for _, d := range differences {
			require.Equal(t, "missing", d.Have, d)
		}
		require.True(t, !done || len(differences) == 0)
	}
}

// slow gives the management API behind a proxy that calls before for each request.
func slow(t *testing.T, b *messagingtest.BrokerInfo, before func(n int64, w http.ResponseWriter, r *http.Request) (answered bool)) messaging.Admin {
	t.Helper()
	target, err := url.Parse(b.ManagementURL)
	require.NoError(t, err)
	var requests atomic.Int64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !before(requests.Add(1), w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	a := b.Admin()
	a.ManagementURL = server.URL
	return a
}

func TestManagementRequests(t *testing.T) {
	t.Parallel()
	t.Run("wait as long as the context allows", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		a := slow(t, b, func(n int64, _ http.ResponseWriter, r *http.Request) bool {
			if n == 5 { // a policy
				select {
				case <-time.After(17 * time.Second):
				case <-r.Context().Done():
				}
			}
			return false
		})
		began := time.Now()
		require.NoError(t, messaging.Apply(within(t, 2*time.Minute), a, sample()))
		require.Greater(t, time.Since(began), 17*time.Second, "the request was not waited for")
	})
	t.Run("are repeated when they may pass", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		var failed atomic.Int64
		a := slow(t, b, func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			switch n % 3 {
			case 1:
				failed.Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			case 2:
				failed.Add(1)
				panic(http.ErrAbortHandler) // the connection ends without an answer
			}
			return false
		})
		topology := messaging.Topology{Queues: []messaging.Queue{{Name: "q", Type: messaging.Quorum, MaxLength: 5}}}
		require.NoError(t, messaging.Apply(within(t, 2*time.Minute), a, topology))
		topology.Queues[0].MaxLength = 0 // deletes the policy
		require.NoError(t, messaging.Apply(within(t, 2*time.Minute), a, topology))
		require.Greater(t, failed.Load(), int64(10))
		differences, err := messaging.Verify(within(t, time.Minute), b.Admin(), topology)
		require.NoError(t, err)
		require.Empty(t, differences)
	})
	t.Run("write nothing that is there already", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), sample()))
		var writes atomic.Int64
		a := slow(t, b, func(_ int64, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				writes.Add(1)
			}
			return false
		})
		require.NoError(t, messaging.Apply(within(t, time.Minute), a, sample()))
		require.Zero(t, writes.Load())
		topology := sample()
		topology.Queues[sampleWork].MaxLength++
		require.NoError(t, messaging.Apply(within(t, time.Minute), a, topology))
		require.EqualValues(t, 1, writes.Load())
	})
	t.Run("end with the context", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		a := slow(t, b, func(_ int64, _ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		})
		err := messaging.Apply(within(t, 2*time.Second), a, sample())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "GET /policies/")
	})
}

// Twenty tools at once, each of which has the time that its context gives it.
func TestManyApplyAtOnce(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	const tools = 20
	errs := make(chan error, tools)
	topologies := make([]messaging.Topology, tools)
	for i := range tools {
		name := fmt.Sprintf("tool-%d", i)
		topologies[i] = messaging.Topology{
			Exchanges: []messaging.Exchange{{Name: name, Kind: messaging.Topic}},
			Queues: []messaging.Queue{
				{Name: name + ".dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
				{Name: name, Type: messaging.Quorum, MaxLength: 10, Overflow: messaging.RejectPublish, DeadLetter: &messaging.DeadLetter{Exchange: name, Key: "dead"}},
			},
			Bindings: []messaging.Binding{{Source: name, Destination: name + ".dead", Key: "dead"}},
		}
		go func() { errs <- messaging.Apply(within(t, 3*time.Minute), b.Admin(), topologies[i]) }()
	}
	for range tools {
		require.NoError(t, next(t, errs))
	}
	differences, err := messaging.Verify(within(t, time.Minute), b.Admin(), messaging.Merge(topologies...))
	require.NoError(t, err)
	require.Empty(t, differences)
}

// A queue may be there already, declared by others without the type that is the default.
func TestApplyTakesOverWhatIsThere(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	_, err := ch.QueueDeclare("jobs", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.ExchangeDeclare("events", amqp.ExchangeTopic, true, false, false, false, nil))
	apply(t, b, messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "events", Kind: messaging.Topic}},
		Queues:    []messaging.Queue{{Name: "jobs", Type: messaging.Classic, MaxLength: 5}},
		Bindings:  []messaging.Binding{{Source: "events", Destination: "jobs", Key: "#"}, {Source: "events", Destination: "jobs", Key: "#"}},
	})
}
