package contract_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// regional are the topologies of all brokers.
func regional(t *testing.T) map[string]messaging.Topology {
	t.Helper()
	brokers := map[string]messaging.Topology{}
	for _, region := range []string{contract.RegionEU, contract.RegionUS} {
		topology, err := contract.InRegion(region, 0)
		require.NoError(t, err)
		require.NoError(t, topology.Validate())
		brokers[region] = topology
	}
	return brokers
}

// An event is on every broker. One notifier handles it: the same events as without regions,
// in the customer's region.
func TestEachRegionTellsItsOwnCustomers(t *testing.T) {
	t.Parallel()
	brokers := regional(t)
	for _, c := range []struct{ customers, teller string }{
		{contract.RegionEU, contract.RegionEU}, {contract.RegionUS, contract.RegionUS}, {contract.RegionAPAC, contract.RegionEU},
	} {
		for _, event := range []string{"placed", "paid", "declined", "cancelled", "refunded"} {
			for _, tier := range []string{contract.TierStandard, contract.TierExpress} {
				route := messaging.Route{Exchange: contract.OrdersEvents, Key: contract.OrderKey(event, c.customers, tier)}
				alone := routed(contract.All(0), route, nil)
				for region, topology := range brokers {
					want := []string{contract.Audit}
					if region == c.teller {
						want = alone
					}
					require.Equal(t, want, routed(topology, route, nil), "%s in %s", route.Key, region)
				}
			}
		}
	}
}

// Everything else is the same as on a single broker.
func TestARegionDiffersInThisOnly(t *testing.T) {
	t.Parallel()
	alone := contract.All(time.Minute)
	toTell := func(b messaging.Binding) bool {
		return b.Source == contract.OrdersEvents && b.Destination == contract.NotifierOrders.Name
	}
	alone.Bindings = slices.DeleteFunc(alone.Bindings, toTell)
	for _, region := range []string{contract.RegionEU, contract.RegionUS} {
		topology, err := contract.InRegion(region, time.Minute)
		require.NoError(t, err)
		topology.Bindings = slices.DeleteFunc(topology.Bindings, toTell)
		for i := range topology.Exchanges {
			require.Equal(t, topology.Exchanges[i].Name == contract.OrdersEvents, topology.Exchanges[i].Federated)
			topology.Exchanges[i].Federated = false
		}
		n := len(topology.Users) - 1
		require.Equal(t, contract.FederationUser, topology.Users[n].Name)
		topology.Users = topology.Users[:n]
		require.Equal(t, alone, topology)
	}
}

func TestARegionWithoutABroker(t *testing.T) {
	t.Parallel()
	for _, region := range []string{contract.RegionAPAC, "mars", ""} {
		_, err := contract.InRegion(region, 0)
		require.ErrorContains(t, err, "no broker")
	}
}

func TestRightsOfALink(t *testing.T) {
	t.Parallel()
	users := regional(t)[contract.RegionEU].Users
	link := users[len(users)-1]
	require.Empty(t, link.Tags)
	const queue = "federation: orders.events -> rabbit@rabbitmq-us"
	for right, c := range map[string]struct {
		pattern string
		names   []string
	}{
		"configure": {link.Configure, []string{queue, queue + " A", queue + " B"}},
		"write":     {link.Write, []string{queue, queue + " A", queue + " B"}},
		"read":      {link.Read, []string{queue, queue + " A", queue + " B", contract.OrdersEvents}},
	} {
		pattern := regexp.MustCompile(c.pattern)
		for _, name := range c.names {
			require.True(t, pattern.MatchString(name), "%s %s", right, name)
		}
		for _, name := range []string{
			"federation: billing.events -> rabbit@rabbitmq-us", "x" + queue, "orders.eventsx", "xorders.events", "federation: ordersxevents -> us",
			contract.BillingEvents, contract.Audit, contract.BillingCharge.Name, "amq.default", "amq.gen-x", contract.DeadQueue(contract.NotifierOrders.Name),
		} {
			require.False(t, pattern.MatchString(name), "%s %s", right, name)
		}
		require.Equal(t, right == "read", pattern.MatchString(contract.OrdersEvents), right)
	}
}
