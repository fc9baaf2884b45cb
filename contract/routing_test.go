package contract_test

import (
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// listeners are the queues of single instances, which each instance declares and binds
// itself, so they are not in the topology.
var listeners = map[string]messaging.Queue{
	contract.PricesChanged: contract.PriceListener,
	contract.OpsHeartbeats: contract.HeartbeatListener,
}

// routed returns the queues to which the broker would route a message, sorted.
func routed(t messaging.Topology, route messaging.Route, headers map[string]any) []string {
	found := map[string]bool{}
	follow(t, route, headers, found)
	return slices.Sorted(maps.Keys(found))
}

func follow(t messaging.Topology, route messaging.Route, headers map[string]any, found map[string]bool) {
	i := slices.IndexFunc(t.Exchanges, func(x messaging.Exchange) bool { return x.Name == route.Exchange })
	if i < 0 {
		return
	}
	x := t.Exchanges[i]
	var matching []messaging.Binding
	for _, b := range t.Bindings {
		if b.Source == x.Name && matches(x.Kind, b, route.Key, headers) {
			matching = append(matching, b)
		}
	}
	if x.Kind == messaging.ModulusHash && len(matching) > 0 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(route.Key))
		matching = matching[h.Sum32()%uint32(len(matching)):][:1]
	}
	for _, b := range matching {
		if b.ToExchange {
			follow(t, messaging.Route{Exchange: b.Destination, Key: route.Key}, headers, found)
		} else {
			found[b.Destination] = true
		}
	}
	if _, listened := listeners[x.Name]; len(matching) == 0 && !listened && x.Alternate != "" {
		follow(t, messaging.Route{Exchange: x.Alternate, Key: route.Key}, headers, found)
	}
}

func matches(kind messaging.ExchangeKind, b messaging.Binding, key string, headers map[string]any) bool {
	switch kind {
	case messaging.Direct:
		return b.Key == key
	case messaging.Topic:
		return topicMatches(strings.Split(b.Key, "."), strings.Split(key, "."))
	case messaging.Headers:
		wanted := maps.Clone(b.Match)
		delete(wanted, "x-match")
		var hits int
		for name, value := range wanted {
			if headers[name] == value {
				hits++
			}
		}
		return hits == len(wanted) || hits > 0 && b.Match["x-match"] == "any"
	default:
		return true
	}
}

func topicMatches(pattern, words []string) bool {
	switch {
	case len(pattern) == 0:
		return len(words) == 0
	case pattern[0] == "#":
		return topicMatches(pattern[1:], words) || len(words) > 0 && topicMatches(pattern, words[1:])
	case len(words) == 0:
		return false
	default:
		return (pattern[0] == "*" || pattern[0] == words[0]) && topicMatches(pattern[1:], words[1:])
	}
}

func TestEventsReachTheirQueues(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	for _, region := range []string{contract.RegionEU, contract.RegionUS, contract.RegionAPAC} {
		for _, event := range []string{"placed", "paid", "declined", "cancelled", "refunded"} {
			want := []string{"audit", "notifier.orders"}
			route := messaging.Route{Exchange: contract.OrdersEvents, Key: contract.OrderKey(event, region, contract.TierExpress)}
			require.Equal(t, want, routed(topology, route, nil), route.Key)

			if event == "placed" || event == "refunded" {
				want = []string{"audit"} // no notifications to customers of the standard tier
			}
			route.Key = contract.OrderKey(event, region, contract.TierStandard)
			require.Equal(t, want, routed(topology, route, nil), route.Key)
		}
	}

	shards := map[string]int{}
	for _, order := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		queues := routed(topology, contract.PaymentRoute(order), nil)
		require.Len(t, queues, 3)
		require.Equal(t, "audit", queues[0])
		require.Equal(t, "notifier.receipts", queues[1])
		shards[queues[2]]++
	}
	for _, q := range contract.PaymentShards {
		require.Positive(t, shards[q.Name], q.Name)
	}
	require.Len(t, shards, 4)
}

func TestCommandsReachOneQueue(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	for route, queue := range map[messaging.Route]string{
		contract.ChargeRoute:                     "billing.charge",
		contract.RefundRoute:                     "billing.refund",
		contract.PaymentDeadlineRoute:            "orders.payment-deadline",
		contract.PricingQuoteProcedure.Route:     "pricing.quote",
		contract.PricingCatalogueProcedure.Route: "pricing.quote",
	} {
		require.Equal(t, []string{queue}, routed(topology, route, nil), route)
		require.Empty(t, routed(topology, messaging.Route{Exchange: route.Exchange, Key: "nobody"}, nil), "is returned to its sender")
	}
}

func TestNotificationsReachTheirChannel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		channel, urgency string
		want             []string
	}{
		{contract.ChannelEmail, contract.UrgencyNormal, []string{"notifier.email"}},
		{contract.ChannelEmail, contract.UrgencyHigh, []string{"notifier.email", "notifier.webhook"}},
		{contract.ChannelWebhook, contract.UrgencyNormal, []string{"notifier.webhook"}},
		{contract.ChannelWebhook, contract.UrgencyHigh, []string{"notifier.webhook"}},
		{"pigeon", contract.UrgencyNormal, nil},
	} {
		headers := map[string]any{contract.HeaderChannel: c.channel, contract.HeaderUrgency: c.urgency}
		require.Equal(t, c.want, routed(contract.All(0), messaging.Route{Exchange: contract.Notifications}, headers), headers)
	}
}

func TestListenersAreTheOnlyHearersOfTheirExchanges(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	for exchange, q := range listeners {
		require.NoError(t, q.Validate())
		require.True(t, q.Exclusive)
		require.Positive(t, q.MaxLength, "the queue of an instance that hangs must not fill the broker")
		require.Equal(t, messaging.DropHead, q.Overflow)
		require.Empty(t, routed(topology, messaging.Route{Exchange: exchange}, nil), exchange)
	}
}

// Each type's exchange routes to at least one queue or listener.
func TestEveryTypeIsHeard(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	for _, kind := range topology.Types {
		if kind.Exchange == "" {
			continue // a reply, which the default exchange routes to its caller
		}
		_, listened := listeners[kind.Exchange]
		bound := slices.ContainsFunc(topology.Bindings, func(b messaging.Binding) bool { return b.Source == kind.Exchange })
		require.True(t, bound || listened, kind.Name)
	}
}

func TestUnroutedEventsAreKept(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	alternates := map[string]string{}
	for _, x := range topology.Exchanges {
		if x.Alternate != "" {
			alternates[x.Name] = x.Alternate
		}
	}
	require.Equal(t, map[string]string{
		contract.OrdersEvents: contract.Unrouted, contract.BillingEvents: contract.Unrouted,
		contract.OrdersPayments: contract.Unrouted, contract.PricesChanged: contract.Unrouted,
	}, alternates, "a command has no alternate: it goes back to its sender")
	require.Equal(t, []string{contract.Unrouted}, routed(topology, messaging.Route{Exchange: contract.Unrouted, Key: "any"}, nil))
}
