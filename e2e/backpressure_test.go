package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/go-units"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// refused posts an order that must be refused with a Retry-After.
func (s *system) refused(key string, want int) {
	s.t.Helper()
	status, header, answer, err := s.try(s.orders[0].URL, key, orderBody("later", contract.TierStandard, "tok_ok", "mug"))
	require.NoError(s.t, err)
	require.Equal(s.t, want, status, string(answer))
	require.Equal(s.t, "application/problem+json", header.Get("Content-Type"))
	require.NotEmpty(s.t, header.Get("Retry-After"))
}

// allPaid waits until exactly these orders exist, all paid, with one capture each.
func (s *system) allPaid(ids map[string]bool) {
	s.t.Helper()
	for id := range ids {
		s.becomes(id, "paid")
		require.Len(s.t, s.captures(id), 1)
	}
	var placed int
	require.NoError(s.t, s.connect("orders").QueryRow(s.t.Context(), `SELECT count(*) FROM orders`).Scan(&placed))
	require.Equal(s.t, len(ids), placed)
}

// limit changes the maximal length of a queue, in messages.
func (s *system) limit(queue string, length int64) {
	s.t.Helper()
	path := "/api/policies/" + url.PathEscape(s.broker.VHost) + "/" + queue
	var policy map[string]any
	s.broker.Management(s.t, http.MethodGet, path, nil, &policy)
	policy["definition"].(map[string]any)["max-length"] = length
	s.broker.Management(s.t, http.MethodPut, path, policy, nil)
}

// fillOutbox adds 10,001 rows to the outbox whose messages the broker refuses, and places
// orders until one is refused. It adds those that were accepted before to ids, and returns a
// function that removes its rows.
func (s *system) fillOutbox(ids map[string]bool) (empty func()) {
	s.t.Helper()
	db := s.connect("orders")
	_, err := db.Exec(s.t.Context(), `INSERT INTO outbox (key, exchange, route, message)
		SELECT 'filler', exchange, route, message FROM generate_series(1, 10001), (SELECT * FROM outbox WHERE attempts > 0 LIMIT 1) AS one`)
	require.NoError(s.t, err)
	messagingtest.Eventually(s.t, 10*time.Second, func() (bool, string) { // the length is read once a second
		status, _, answer, err := s.try(s.orders[0].URL, "", orderBody("later", contract.TierStandard, "tok_ok", "mug"))
		require.NoError(s.t, err)
		if status == http.StatusCreated {
			var o orderView
			require.NoError(s.t, json.Unmarshal(answer, &o))
			ids[o.ID] = true
		}
		return status == http.StatusTooManyRequests, string(answer)
	})
	return func() {
		_, err := db.Exec(s.t.Context(), `DELETE FROM outbox WHERE key = 'filler'`)
		require.NoError(s.t, err)
	}
}

// A consumer that is too slow fills its queue, the broker refuses further messages, the
// outbox keeps them, and when that is full too, customers are asked to wait.
func TestASlowConsumerSlowsTheEdgeDown(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startBilling(1)
	s.limit(contract.BillingCharge.Name, 3)
	db := s.connect("orders")
	ids := map[string]bool{}
	for i := range 20 { // each takes a third of a second, and all come at the same time
		ids[s.place(fmt.Sprint("customer", i), contract.TierStandard, "tok_slow_300").ID] = true
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		var heldBack int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE not_before IS NOT NULL AND route = 'charge'`).Scan(&heldBack))
		return heldBack > 0, "the queue has taken everything"
	})

	empty := s.fillOutbox(ids)
	s.refused("second", http.StatusTooManyRequests)

	empty()
	s.limit(contract.BillingCharge.Name, contract.BillingCharge.MaxLength)
	ids[s.insist(t.Context(), "second", orderBody("later", contract.TierStandard, "tok_ok", "mug"))] = true
	s.allPaid(ids)
}

// One of several queues behind a topic exchange is full: the message is refused for all of
// them, and sent again to all when there is room. Until then the outbox fills, and customers
// are asked to wait.
func TestAFullQueueLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startBilling(4)
	s.limit(contract.NotifierOrders.Name, 2) // it has no consumer
	ids := map[string]bool{}
	for i := range 12 {
		ids[s.place(fmt.Sprint("customer", i), contract.TierExpress, "tok_ok").ID] = true
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		var refusals int
		require.NoError(t, s.connect("orders").QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE attempts > 0`).Scan(&refusals))
		return refusals > 0, "nothing was refused"
	})
	empty := s.fillOutbox(ids)
	s.refused("second", http.StatusTooManyRequests)

	empty()
	s.startNotifier()
	ids[s.insist(t.Context(), "second", orderBody("later", contract.TierStandard, "tok_ok", "mug"))] = true
	s.allPaid(ids)
	messagingtest.Eventually(t, 60*time.Second, func() (bool, string) {
		missing := ""
		_, mails := s.get("http://" + s.sandbox.Addr() + "/v1/mails")
		for id := range ids {
			if !strings.Contains(mails, "Order "+id+" is paid") {
				missing = id
			}
		}
		return missing == "", missing + " was not told"
	})
}

// Not parallel: the alarm blocks the publishers of every test.
func TestABlockedConnectionSlowsTheEdgeDown(t *testing.T) {
	s := newSystem(t, 0)
	s.startAll()
	ids := map[string]bool{s.place("ada", contract.TierStandard, "tok_ok").ID: true}
	s.broker.Exec(t, "rabbitmqctl", "set_vm_memory_high_watermark", "0.0000001")
	unblock := sync.OnceFunc(func() { s.broker.Exec(t, "rabbitmqctl", "set_vm_memory_high_watermark", "0.6") })
	defer unblock()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		status, body := s.get(s.orders[0].Admin + "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "blocked"), body
	})
	for i := range 3 { // an order needs a price, and the request for it cannot be sent
		s.refused(fmt.Sprint("blocked ", i), http.StatusServiceUnavailable)
	}
	unblock()
	for i := range 3 {
		ids[s.insist(t.Context(), fmt.Sprint("blocked ", i), orderBody("later", contract.TierStandard, "tok_ok", "mug"))] = true
	}
	s.allPaid(ids)
}

func TestASlowDatabaseSlowsTheEdgeDown(t *testing.T) {
	t.Parallel()
	const customers = 40 // more than the pool has connections
	s := newSystem(t, 0)
	s.startAll()
	ids := map[string]bool{s.place("ada", contract.TierStandard, "tok_ok").ID: true}
	tx, err := s.connect("orders").Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE orders IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range customers {
		all.Go(func() { s.refused(fmt.Sprint("slow ", i), http.StatusServiceUnavailable) })
	}
	all.Wait()
	require.NoError(t, tx.Rollback(t.Context()))
	for i := range customers {
		ids[s.insist(t.Context(), fmt.Sprint("slow ", i), orderBody("later", contract.TierStandard, "tok_ok", "mug"))] = true
	}
	s.allPaid(ids)
}

// maxMemory is what a service may use while messages wait, in bytes.
const maxMemory = 100 << 20

// checkMemory pauses the sandbox, puts 50,000 messages each into two queues and twice as
// many into an outbox, and measures the services while none of these can be handled. The
// messages stay where they are.
func (c *composed) checkMemory(t *testing.T, secrets map[string]string) {
	const each, wave = 50_000, 1000
	c.script(t, "docker pause "+c.Container("sandbox", 1))
	defer c.script(t, "docker unpause "+c.Container("sandbox", 1))
	db, err := c.database(t, "orders", secrets["services/orders/database_password"], "orders")
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `INSERT INTO outbox (key, exchange, route, message)
		SELECT n::text, $1, 'nobody', jsonb_build_object('ID', gen_random_uuid(), 'Type', $2::text) FROM generate_series(1, $3) AS n`, contract.BillingCommands, contract.Charge.Name, 2*each)
	require.NoError(t, err)
	conn, err := amqp.Dial(fmt.Sprintf("amqp://%s:%s@%s/", contract.Operator, secrets["services/operator/amqp_password"], c.Address("AMQP_PORT")))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.Confirm(false))
	var confirms []*amqp.DeferredConfirmation
	for queue, kind := range map[string]messaging.MessageType{contract.BillingCharge.Name: contract.Charge, contract.NotifierEmail.Name: contract.Notification} {
		body, err := contract.Fixture(kind.Name)
		require.NoError(t, err)
		for n := range each {
			confirm, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{
				MessageId: uuid.NewString(), Type: kind.Name, ContentType: "application/json", DeliveryMode: amqp.Persistent, UserId: contract.Operator, Body: body,
			})
			require.NoError(t, err)
			if confirms = append(confirms, confirm); n%wave == wave-1 {
				for _, confirm := range confirms {
					stored, err := confirm.WaitContext(t.Context())
					require.NoError(t, err)
					require.True(t, stored)
				}
				confirms = confirms[:0]
			}
		}
	}
	most := map[string]int64{}
	for range 5 { // each takes about two seconds
		for line := range strings.Lines(c.script(t, "docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' $(docker ps -q --filter label=com.docker.compose.project="+c.Project+")")) {
			fields := strings.Fields(line)
			used, err := units.RAMInBytes(fields[1])
			require.NoError(t, err, line)
			name := strings.TrimSuffix(strings.TrimPrefix(fields[0], c.Project+"-"), "-1")
			most[name] = max(most[name], used)
		}
	}
	depths := c.compose(t, "exec -T rabbitmq rabbitmqctl -q list_queues --no-table-headers name messages")
	for _, queue := range []string{contract.BillingCharge.Name, contract.NotifierEmail.Name} {
		_, after, _ := strings.Cut("\n"+depths, "\n"+queue+"\t")
		line, _, _ := strings.Cut(after, "\n")
		waiting, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err, depths)
		require.Greater(t, waiting, each*9/10, "they wait")
	}
	for _, name := range []string{"orders", "billing", "notifier", "pricing-rpc"} {
		require.Positive(t, most[name], name)
		require.Less(t, most[name], int64(maxMemory), name)
		t.Logf("%s: at most %s", name, units.BytesSize(float64(most[name])))
	}
}
