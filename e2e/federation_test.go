package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// federated are complete systems, one in each region with a broker. Each has its own sandbox,
// so the mailbox shows which region's notifier has sent a mail.
type federated struct {
	t       *testing.T
	regions *messagingtest.RegionsInfo
	systems map[string]*system
	// mails are the expected subjects in a region's mailbox, by region and customer.
	mails map[string]map[string][]string
}

func newFederated(t *testing.T) *federated {
	t.Helper()
	names := []string{contract.RegionEU, contract.RegionUS}
	f := &federated{t: t, regions: messagingtest.Regions(t, names...), systems: map[string]*system{}, mails: map[string]map[string][]string{}}
	for _, region := range names {
		topology, err := contract.InRegion(region, 0)
		require.NoError(t, err)
		f.systems[region] = newSystemOn(t, f.regions.Brokers[region], topology)
		f.mails[region] = map[string][]string{}
	}
	for _, region := range names {
		var upstreams []messaging.Upstream
		for _, other := range names {
			if other != region {
				upstreams = append(upstreams, messaging.Upstream{Name: other, URL: "amqp://" + other + ":5672?heartbeat=2", User: contract.FederationUser, Password: password})
			}
		}
		require.NoError(t, messaging.ApplyUpstreams(t.Context(), f.regions.Brokers[region].Admin(), upstreams))
	}
	f.regions.AwaitLinks(t)
	for _, s := range f.systems {
		s.startAll()
	}
	return f
}

// placedIn is an order that a customer of one region has placed in one of them.
type placedIn struct{ in, region, customer, id string }

// place places an order that must be accepted.
func (f *federated) place(in, region, customer string) (placedIn, error) {
	s := f.systems[in]
	body := strings.Replace(orderBody(customer, contract.TierStandard, "tok_ok", "mug"), `"eu"`, fmt.Sprintf("%q", region), 1)
	status, _, answer, err := s.try(s.orders[0].URL, "", body)
	if err != nil {
		return placedIn{}, err
	}
	if status != http.StatusCreated {
		return placedIn{}, fmt.Errorf("%d: %s", status, answer)
	}
	var o orderView
	err = json.Unmarshal(answer, &o)
	return placedIn{in, region, customer, o.ID}, err
}

// expect adds the mails of a paid order: the customer's region, or the one that serves it, sends
// the notification; the region where it was paid sends the receipt.
func (f *federated) expect(o placedIn) {
	sender := o.region
	if sender == contract.RegionAPAC {
		sender = contract.RegionEU
	}
	f.mails[sender][o.customer] = append(f.mails[sender][o.customer], "Order "+o.id+" is paid")
	f.mails[o.in][o.customer] = append(f.mails[o.in][o.customer], "Receipt for order "+o.id)
}

var everyRegion = []string{contract.RegionEU, contract.RegionUS, contract.RegionAPAC}

// order places an order of one customer of each region in one region, and waits until all
// are paid there.
func (f *federated) order(in, occasion string) (ids []string) {
	f.t.Helper()
	for _, region := range everyRegion {
		o, err := f.place(in, region, strings.Join([]string{occasion, in, region}, "-"))
		require.NoError(f.t, err)
		f.expect(o)
		ids = append(ids, o.id)
	}
	for _, id := range ids {
		f.systems[in].becomes(id, "paid")
	}
	return ids
}

// keepOrdering places orders of customers of all regions in both, 20 in a second, until it
// is stopped.
func (f *federated) keepOrdering(stop <-chan struct{}, count *atomic.Int32) (all []placedIn, err error) {
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return all, nil
		case <-pace.C:
		}
		o, err := f.place([]string{contract.RegionEU, contract.RegionUS}[n%2], everyRegion[n%3], fmt.Sprint("busy-", n))
		if err != nil {
			return all, err
		}
		all = append(all, o)
		count.Add(1)
	}
}

// told waits until all expected mails have arrived, and checks that there are no others.
func (f *federated) told() {
	f.t.Helper()
	for region, customers := range f.mails {
		for customer, want := range customers {
			f.systems[region].eventuallySame(want, func() []string { return f.systems[region].subjects(customer) })
		}
	}
	for region, s := range f.systems {
		var answer struct {
			Mails []struct {
				Subject string `json:"subject"`
			} `json:"mails"`
		}
		s.getJSON("http://"+s.sandbox.Addr()+"/v1/mails?limit=1000", &answer)
		var want, have []string
		for _, subjects := range f.mails[region] {
			want = append(want, subjects...)
		}
		for _, m := range answer.Mails {
			have = append(have, m.Subject)
		}
		require.ElementsMatch(f.t, want, have, region)
	}
}

// link is the queue on a region's broker with the events that another region has not fetched.
func link(to string) string { return "federation: " + contract.OrdersEvents + " -> " + to }

// Not parallel: two brokers and eight services are enough for two cores.
func TestTwoRegions(t *testing.T) {
	f := newFederated(t)
	eu, us := f.systems[contract.RegionEU], f.systems[contract.RegionUS]

	t.Run("the customer's region sends the mails, wherever the order was placed", func(t *testing.T) {
		f.order(contract.RegionEU, "first")
		f.order(contract.RegionUS, "first")
		f.told()
	})
	t.Run("a link is cut and restored", func(t *testing.T) {
		f.regions.Cut(t, contract.RegionUS)
		placed := f.order(contract.RegionEU, "cut")
		f.order(contract.RegionUS, "cut")
		for s, other := range map[*system]string{eu: contract.RegionUS, us: contract.RegionEU} {
			s.depth(link(other), 6) // placed and paid, of three orders
		}
		require.Empty(t, us.subjects("cut-eu-us"))

		f.regions.Heal(t, contract.RegionUS)
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			forUS, forEU := eu.broker.Depth(t, link(contract.RegionUS)), us.broker.Depth(t, link(contract.RegionEU))
			return forUS+forEU == 0, fmt.Sprintf("%d events wait for us, %d for eu", forUS, forEU)
		})
		f.told()
		arrived := map[string]bool{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for d, err := range us.broker.Connect(t, us.broker.Config()).Stream(ctx, contract.AuditStream, messaging.FirstOffset()) {
			require.NoError(t, err)
			if d.Type == contract.OrderPaid.Name && slices.Contains(placed, d.CorrelationID) {
				require.Equal(t, contract.OrdersUser, d.UserID)
				require.Equal(t, contract.OrdersEvents, d.Exchange)
				arrived[d.CorrelationID] = true
			}
			if len(arrived) == len(placed) {
				break
			}
		}
		require.Len(t, arrived, len(placed))
	})
	t.Run("a link is cut and restored while customers order", f.cutWhileCustomersOrder)
	t.Run("no mail has come twice", func(t *testing.T) {
		// These events come after all earlier ones, on every link.
		f.order(contract.RegionEU, "last")
		f.order(contract.RegionUS, "last")
		f.told()
	})
	t.Run("the brokers are as the contract says", func(t *testing.T) {
		for region, s := range f.systems {
			topology, err := contract.InRegion(region, 0)
			require.NoError(t, err)
			differences, err := messaging.Verify(t.Context(), s.broker.Admin(), topology)
			require.NoError(t, err)
			require.Empty(t, differences, region)
			for _, q := range topology.Queues {
				if strings.HasSuffix(q.Name, ".dead") || q.Name == contract.Unrouted {
					require.Zero(t, s.broker.Depth(t, q.Name), "%s in %s", q.Name, region)
				}
			}
		}
	})
	t.Run("the federation user can manage its link, and nothing else", f.checkLinkUser)
}

func (f *federated) cutWhileCustomersOrder(t *testing.T) {
	eu, us := f.systems[contract.RegionEU], f.systems[contract.RegionUS]
	var count atomic.Int32
	more := func(n int32) {
		enough := count.Load() + n
		messagingtest.Eventually(t, time.Minute, func() (bool, string) { return count.Load() >= enough, fmt.Sprint(count.Load()) })
	}
	stop, result := make(chan struct{}), make(chan error, 1)
	var placed []placedIn
	go func() {
		var err error
		placed, err = f.keepOrdering(stop, &count)
		result <- err
	}()
	more(10)
	f.regions.Cut(t, contract.RegionUS)
	more(10)
	for s, other := range map[*system]string{eu: contract.RegionUS, us: contract.RegionEU} {
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			n := s.broker.Depth(t, link(other))
			return n > 0, fmt.Sprintf("%d events wait", n)
		})
	}
	f.regions.Heal(t, contract.RegionUS)
	more(10)
	close(stop)
	require.NoError(t, <-result)
	for _, o := range placed {
		f.systems[o.in].becomes(o.id, "paid")
		f.expect(o)
	}
	f.told()
}

func (f *federated) checkLinkUser(t *testing.T) {
	eu := f.systems[contract.RegionEU]
	topology, err := contract.InRegion(contract.RegionEU, 0)
	require.NoError(t, err)
	user := topology.Users[len(topology.Users)-1]
	require.Equal(t, contract.FederationUser, user.Name)
	conn, err := dialAs(t, eu.broker, user.Name, password)
	require.NoError(t, err)
	own := link("another")
	for _, try := range []attempt{declareQueue(own), get(own)} {
		code, reason := tryAs(t, conn, try)
		require.Zero(t, code, reason)
	}
	for what, c := range map[string]struct {
		try  attempt
		code int
	}{
		"says that an order is paid":           {write(contract.OrdersEvents, "order.paid.eu.standard"), accessRefused},
		"reaches a queue directly":             {write("", contract.NotifierOrders.Name), accessRefused},
		"has payments come over its link":      {bind(contract.BillingEvents, "#", own), accessRefused},
		"has a queue of orders come to others": {bind(contract.OrdersEvents, "#", contract.NotifierOrders.Name), accessRefused},
		"declares a queue of another name":     {declareQueue("mine"), accessRefused},
		"removes the exchange that it reads":   {deleteExchange(contract.OrdersEvents), accessRefused},
		"dead-letters to where it cannot write": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(link("third"), true, false, false, false, amqp.Table{"x-dead-letter-exchange": contract.OrdersEvents})
			return err
		}, accessRefused},
	} {
		code, reason := tryAs(t, conn, c.try)
		require.Equal(t, c.code, code, "%s: %s", what, reason)
	}
	t.Log(refusesAllElse(t, conn, user, topology), "attempts")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, eu.broker.ManagementURL+"/api/parameters/federation-upstream", nil)
	require.NoError(t, err)
	req.SetBasicAuth(user.Name, password)
	res, err := eu.http.Do(req)
	require.NoError(t, err)
	_ = res.Body.Close()
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "where the other broker's password is")
}
