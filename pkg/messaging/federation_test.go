package messaging_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// regionTopology is a region's: a queue with what is for it, and one with all there is.
func regionTopology(region string) messaging.Topology {
	return messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "events", Kind: messaging.Topic, Federated: true}, {Name: "local", Kind: messaging.Topic}},
		Queues:    []messaging.Queue{{Name: "mine", Type: messaging.Quorum}, {Name: "all", Type: messaging.Quorum}},
		Bindings: []messaging.Binding{
			{Source: "events", Destination: "mine", Key: "event." + region},
			{Source: "events", Destination: "all", Key: "#"},
			{Source: "local", Destination: "all", Key: "#"},
		},
		Users: []messaging.User{messaging.FederationUser("link", "events"), {Name: "speaker", Write: "^(events|local)$"}},
	}
}

// Not parallel: two brokers are enough for two cores.
func TestFederation(t *testing.T) {
	r := messagingtest.Regions(t, "eu", "us")
	eu, us := r.Brokers["eu"], r.Brokers["us"]
	upstream := func(name string) []messaging.Upstream {
		return []messaging.Upstream{{Name: name, URL: "amqp://" + name + ":5672", User: "link", Password: "test-only"}}
	}
	for region, b := range r.Brokers {
		ctx := within(t, 30*time.Second)
		require.NoError(t, messaging.Apply(ctx, b.Admin(), regionTopology(region)))
		require.NoError(t, messaging.ApplyUsers(ctx, b.Admin(), regionTopology(region).Users, func(string) (string, error) { return "test-only", nil }))
	}
	require.NoError(t, messaging.ApplyUpstreams(within(t, 30*time.Second), eu.Admin(), upstream("us")))
	require.NoError(t, messaging.ApplyUpstreams(within(t, 30*time.Second), us.Admin(), upstream("eu")))
	publishRaw := func(b *messagingtest.BrokerInfo, exchange, key, body string) {
		t.Helper()
		conn, err := amqp.Dial(b.WithUser(t, "speaker", "test-only"))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		ch, err := conn.Channel()
		require.NoError(t, err)
		require.NoError(t, ch.Confirm(false))
		put(t, ch, exchange, key, amqp.Publishing{UserId: "speaker", MessageId: body, Body: []byte(body)})
	}
	const toUS = "federation: events -> us"
	r.AwaitLinks(t)

	t.Run("the other region gets it, as if it had been published there", func(t *testing.T) {
		publishRaw(eu, "events", "event.us", "1")
		d := get(t, raw(t, us), "mine")
		require.Equal(t, []any{"1", "1", "events", "event.us", "speaker", amqp.Persistent},
			[]any{d.MessageId, string(d.Body), d.Exchange, d.RoutingKey, d.UserId, d.DeliveryMode})
		require.Equal(t, "1", get(t, raw(t, us), "all").MessageId)
		require.Equal(t, "1", get(t, raw(t, eu), "all").MessageId)
		require.Zero(t, eu.Depth(t, "mine"), "it is not for this region")
	})
	t.Run("nothing comes back, and what is not federated stays", func(t *testing.T) {
		publishRaw(us, "local", "event.eu", "2")
		publishRaw(us, "events", "event.eu", "3")
		require.Equal(t, "3", get(t, raw(t, eu), "all").MessageId, "2 has not come")
		require.Equal(t, "3", get(t, raw(t, eu), "mine").MessageId)
		publishRaw(eu, "events", "event.eu", "4") // behind 3, if that came back
		ch := raw(t, us)
		require.Equal(t, []string{"2", "3", "4"}, []string{get(t, ch, "all").MessageId, get(t, ch, "all").MessageId, get(t, ch, "all").MessageId})
		require.Equal(t, "4", get(t, raw(t, eu), "all").MessageId)
		require.Equal(t, "4", get(t, raw(t, eu), "mine").MessageId)
	})
	t.Run("what waits for a region that was stopped is still there", func(t *testing.T) {
		us.Exec(t, "rabbitmqctl", "-q", "stop_app")
		for _, id := range []string{"5", "6"} {
			publishRaw(eu, "events", "event.us", id)
		}
		require.Equal(t, 2, eu.Depth(t, toUS))
		us.Exec(t, "rabbitmqctl", "-q", "start_app")
		require.Equal(t, "5", get(t, raw(t, us), "mine").MessageId)
		require.Equal(t, "6", get(t, raw(t, us), "mine").MessageId)
	})
	t.Run("applied again, the link goes on", func(t *testing.T) {
		r.AwaitLinks(t)
		links := func() string { return eu.Exec(t, "rabbitmqctl", "-q", "list_connections", "user", "peer_port") }
		before := links()
		require.Contains(t, before, "link")
		require.NoError(t, messaging.Apply(within(t, 30*time.Second), us.Admin(), regionTopology("us")))
		require.NoError(t, messaging.ApplyUpstreams(within(t, 30*time.Second), us.Admin(), upstream("eu")))
		publishRaw(eu, "events", "event.us", "7")
		require.Equal(t, "7", get(t, raw(t, us), "mine").MessageId)
		require.Equal(t, before, links())
	})
	t.Run("verified", func(t *testing.T) {
		verify := func() (found []string) {
			differences, err := messaging.Verify(within(t, 30*time.Second), eu.Admin(), regionTopology("eu"))
			require.NoError(t, err)
			for _, d := range differences {
				found = append(found, d.String())
			}
			return found
		}
		require.Empty(t, verify())
		eu.Management(t, http.MethodPut, "/api/policies/%2F/federation:events",
			map[string]any{"pattern": "^federation: events -> ", "apply-to": "quorum_queues", "priority": 10, "definition": map[string]any{"delivery-limit": 20, "expires": 604800000}}, nil)
		eu.Management(t, http.MethodDelete, "/api/policies/%2F/exchange:events", nil, nil)
		require.Equal(t, []string{
			`exchange "events": federation-upstream-set: want "all", have nothing`,
			`policy "federation:events": delivery-limit: want -1, have 20`,
		}, verify())
		require.NoError(t, messaging.Apply(within(t, 30*time.Second), eu.Admin(), regionTopology("eu")))
		require.Empty(t, verify())
		differences, err := messaging.Verify(within(t, 30*time.Second), eu.Admin(), messaging.Topology{})
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(differences), `queue "`+toUS+`": want not declared`, "without federation it is a leftover")
	})
}

func TestUpstreamsThatAreNotApplied(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t) // without the plugin
	good := messaging.Upstream{Name: "us", URL: "amqp://us:5672", User: "link", Password: "secret"}
	for _, c := range []struct {
		name   string
		change func(*messaging.Upstream)
		want   string
	}{
		{"no URL", func(u *messaging.Upstream) { u.URL = "" }, `upstream "us": URL`},
		{"not AMQP", func(u *messaging.Upstream) { u.URL = "http://secret@us" }, `upstream "us": URL`},
		{"a bad URL", func(u *messaging.Upstream) { u.URL = "amqp://link:secret@us:port" }, `upstream "us": URL`},
		{"no name", func(u *messaging.Upstream) { u.Name = "" }, "Name, User and Password"},
		{"no password", func(u *messaging.Upstream) { u.Password = "" }, "Name, User and Password"},
		{"no plugin", func(*messaging.Upstream) {}, `apply upstream "us"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := good
			c.change(&u)
			err := messaging.ApplyUpstreams(within(t, 30*time.Second), b.Admin(), []messaging.Upstream{u})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}
