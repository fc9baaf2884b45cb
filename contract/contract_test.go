package contract_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

func TestTopologyIsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, contract.All(0).Validate())
}

func TestMoney(t *testing.T) {
	t.Parallel()
	require.NoError(t, contract.Money{AmountMinor: 1, Currency: contract.Currency}.Validate())
	for _, c := range []struct {
		amount contract.Money
		field  string
	}{
		{contract.Money{AmountMinor: 0, Currency: "EUR"}, "amount_minor:"},
		{contract.Money{AmountMinor: -1, Currency: "EUR"}, "amount_minor:"},
		{contract.Money{AmountMinor: 1}, "currency:"},
		{contract.Money{AmountMinor: 1, Currency: "eur"}, "currency:"},
		{contract.Money{AmountMinor: 1, Currency: "EURO"}, "currency:"},
		{contract.Money{AmountMinor: 1, Currency: "ZZZ"}, "currency:"},
	} {
		require.ErrorContains(t, c.amount.Validate(), c.field, "%v", c.amount)
	}
}

func TestEveryBindingHasOneOwner(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, b := range contract.All(0).Bindings {
		name := fmt.Sprintf("%s -> %s %q %v", b.Source, b.Destination, b.Key, b.Match)
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

func TestPaymentDeadline(t *testing.T) {
	t.Parallel()
	for given, want := range map[time.Duration]time.Duration{0: 15 * time.Minute, time.Minute: time.Minute} {
		q, ok := contract.All(given).Queue("orders.payment-deadline")
		require.True(t, ok)
		require.Equal(t, want, q.MessageTTL)
		require.Equal(t, &messaging.DeadLetter{Exchange: contract.OrdersDeadlines, Key: "expire"}, q.DeadLetter)
	}
}

// A dead letter is routed to exactly one queue: <queue>.dead, or for a deadline
// orders.expire.
func TestDeadLettersHaveAPlace(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	var dead []string
	for _, q := range topology.Queues {
		if q.DeadLetter == nil {
			continue
		}
		place, want := routed(topology, messaging.Route{Exchange: q.DeadLetter.Exchange, Key: q.DeadLetter.Key}, nil), contract.DeadQueue(q.Name)
		if q.Name == "orders.payment-deadline" {
			want = contract.OrdersExpire.Name
		}
		require.Equal(t, []string{want}, place, q.Name)
		dead = append(dead, want)
	}
	for _, q := range topology.Queues {
		if q.DeadLetter == nil && q.Type == messaging.Quorum {
			require.Equal(t, messaging.Unlimited, q.Retry.Limit, "%s: the default limit would drop what is looked at", q.Name)
			require.True(t, q.Name == contract.Unrouted || slices.Contains(dead, q.Name), q.Name)
		}
	}
}

func TestQueueSettings(t *testing.T) {
	t.Parallel()
	retry := messaging.Retry{Limit: 20, MinDelay: time.Second, MaxDelay: 30 * time.Second}
	work := []string{"billing.charge", "billing.refund", "orders.expire", "notifier.orders", "notifier.receipts", "notifier.email", "notifier.webhook"}
	shards := []string{"orders.payments.0", "orders.payments.1", "orders.payments.2", "orders.payments.3"}
	topology := contract.All(0)
	for _, name := range append(work, shards...) {
		q, ok := topology.Queue(name)
		require.True(t, ok, name)
		require.Equal(t, messaging.RejectPublish, q.Overflow, name)
		require.Positive(t, q.MaxLength, name)
		if slices.Contains(work, name) {
			require.Equal(t, retry, q.Retry, name)
			require.False(t, q.SingleActiveConsumer, name)
		} else {
			require.Equal(t, messaging.Retry{Limit: 20}, q.Retry, name)
			require.True(t, q.SingleActiveConsumer, name)
			require.Equal(t, 5*time.Minute, q.ConsumerTimeout, name)
		}
	}
	require.Len(t, topology.Queues, 2*len(work)+2*len(shards)+4, "besides: unrouted, audit, orders.payment-deadline, pricing.quote")
}

// The permissions are exactly those of section 6 of the design.
func TestRights(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	dead := []string{
		"billing.charge.dead", "billing.refund.dead", "orders.expire.dead",
		"orders.payments.0.dead", "orders.payments.1.dead", "orders.payments.2.dead", "orders.payments.3.dead",
		"notifier.orders.dead", "notifier.receipts.dead", "notifier.email.dead", "notifier.webhook.dead",
	}
	golden := map[string]struct{ write, read []string }{
		"orders": {
			write: []string{"orders.events", "orders.deadlines", "billing.commands", "pricing.requests", "dead.letters", "ops.heartbeats"},
			read:  []string{"orders.payments.0", "orders.payments.1", "orders.payments.2", "orders.payments.3", "orders.expire", "prices.changed"},
		},
		"billing": {
			write: []string{"billing.events", "dead.letters", "ops.heartbeats"},
			read:  []string{"billing.charge", "billing.refund"},
		},
		"notifier": {
			write: []string{"notifications", "dead.letters", "ops.heartbeats"},
			read:  []string{"notifier.orders", "notifier.receipts", "notifier.email", "notifier.webhook"},
		},
		"pricing-rpc": {
			write: []string{"amq.default", "prices.changed", "ops.heartbeats"},
			read:  []string{"pricing.quote"},
		},
		"operator": {
			write: []string{"amq.default", "orders.events", "billing.events", "orders.payments", "prices.changed"},
			read:  append(dead, "unrouted", "audit"),
		},
	}
	// All names that exist, and names that are similar.
	names := []string{"amq.default", "amq.topic", "xorders.events", "orders.eventsx", "ordersxevents", "billing.charge.deadx"}
	for _, x := range topology.Exchanges {
		names = append(names, x.Name)
	}
	for _, q := range topology.Queues {
		names = append(names, q.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)

	require.Len(t, topology.Users, len(golden))
	for _, u := range topology.Users {
		want, ok := golden[u.Name]
		require.True(t, ok, u.Name)
		require.Empty(t, u.Tags, "%s: no service looks at the management API", u.Name)
		for right, c := range map[string]struct {
			pattern string
			want    []string
		}{"configure": {u.Configure, nil}, "write": {u.Write, want.write}, "read": {u.Read, want.read}} {
			pattern, err := regexp.Compile(c.pattern)
			require.NoError(t, err)
			var given []string
			for _, name := range names {
				if pattern.MatchString(name) {
					given = append(given, name)
				}
			}
			require.ElementsMatch(t, c.want, given, "%s: %s", u.Name, right)
			require.True(t, pattern.MatchString("amq.gen-JzTY20BRgKO-HjmUJj0wLg"), "%s: %s of server-named queues", u.Name, right)
		}
	}
}

// The owner of each type can publish it, and a service can read each queue.
func TestRightsSuffice(t *testing.T) {
	t.Parallel()
	topology := contract.All(0)
	users := map[string]messaging.User{}
	for _, u := range topology.Users {
		users[u.Name] = u
	}
	allows := func(pattern, name string) bool { return regexp.MustCompile(pattern).MatchString(name) }
	for _, kind := range topology.Types {
		if kind.Owner == "" { // a heartbeat, which every service publishes
			for _, name := range []string{"orders", "billing", "notifier", "pricing-rpc"} {
				require.True(t, allows(users[name].Write, kind.Exchange), "%s writes %s", name, kind.Exchange)
			}
			continue
		}
		exchange := kind.Exchange
		if exchange == "" {
			exchange = "amq.default"
		}
		require.True(t, allows(users[kind.Owner].Write, exchange), "%s writes %s", kind.Owner, exchange)
	}
	for _, q := range topology.Queues {
		read := slices.ContainsFunc(topology.Users, func(u messaging.User) bool { return allows(u.Read, q.Name) })
		require.Equal(t, q.Name != "orders.payment-deadline", read, "%s: somebody reads it", q.Name)
	}
}
