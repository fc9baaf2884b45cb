package messaging_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Not parallel: three brokers are enough for two cores.
func TestCluster(t *testing.T) {
	c := messagingtest.Cluster(t)
	t.Run("the node of a quorum queue's leader is killed", func(t *testing.T) { killLeader(t, c) })
	t.Run("the node of a classic queue stops", func(t *testing.T) { stopClassic(t, c) })
}

// killLeader kills the node of the leaders of two queues. One client has all its connections
// to that node, behind a load balancer that then gives it another one; the other client
// keeps its connections, and only the queues get new leaders. Nothing that was confirmed is
// lost for either.
func killLeader(t *testing.T, c *messagingtest.ClusterInfo) {
	t.Helper()
	const killed = 1
	balancer := messagingtest.NewProxy(t, c.Nodes[killed])
	near := connectTo(t, c, balancer.URL)
	far := connectTo(t, c, c.Nodes[(killed+1)%len(c.Nodes)].URL, c.Nodes[(killed+2)%len(c.Nodes)].URL)
	declareOn(t, c.Nodes[killed].URL, "jobs", amqp.Table{
		"x-queue-type": "quorum", "x-queue-leader-locator": "client-local",
		// The queue keeps the unsettled messages of a dead node's consumers from others; by
		// default for 60 s, or until the node is back.
		"x-consumer-disconnected-timeout": 5000,
	})
	require.Equal(t, killed, c.Leader(t, "jobs"))
	// A second queue keeps order; its active consumer is connected to that node.
	declareOn(t, c.Nodes[killed].URL, "ordered", amqp.Table{
		"x-queue-type": "quorum", "x-queue-leader-locator": "client-local", "x-single-active-consumer": true,
		"x-consumer-disconnected-timeout": 5000,
	})
	require.Equal(t, killed, c.Leader(t, "ordered"))
	ordered := newSequences()
	for i, conn := range []*messaging.Conn{near, far} {
		_, err := conn.Consume(messaging.Queue{Name: "ordered", Type: messaging.Quorum, SingleActiveConsumer: true},
			ordered.handler([]string{"near", "far"}[i], nil), messaging.Tenure(0))
		require.NoError(t, err)
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			err := conn.Ready()
			return err == nil, fmt.Sprint(err)
		})
	}

	ctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
	clients := []*jobsClient{newJobsClient(t, near), newJobsClient(t, far)}
	var publishers sync.WaitGroup
	defer publishers.Wait()
	defer stop() // runs first
	for _, client := range clients {
		for range 2 {
			publishers.Go(func() { client.publish(ctx) })
		}
	}
	events := make(chan int, 1)
	orderly := publisher(t, far)
	publishers.Go(func() { events <- ordered.publish(ctx, t, orderly, "", "ordered") })
	more := func(n int) {
		t.Helper()
		for i, client := range clients {
			want := client.confirmed() + n
			messagingtest.Eventually(t, 45*time.Second, func() (bool, string) {
				return client.confirmed() >= want, fmt.Sprintf("client %d: %d confirmed, waiting for %d", i, client.confirmed(), want)
			})
		}
	}
	more(200)
	ordered.more(t, "near", 100)
	balancer.Retarget(c.Nodes[(killed+1)%len(c.Nodes)])
	c.Kill(t, killed)
	defer c.Start(t, killed)
	since := time.Now()
	more(300)
	t.Logf("both clients publish again %s after the kill", time.Since(since).Round(time.Millisecond))
	ordered.more(t, "far", 100)
	stop()
	publishers.Wait()
	compareJobs(t, clients)
	ordered.inOrder(t, next(t, events), "ordered")

	require.NoError(t, near.Ready())
	require.Greater(t, clients[0].subscriptions.Load(), int32(1), "its node was killed")
	require.Equal(t, int32(1), clients[1].subscriptions.Load(), "a new leader ends no subscription")
}

// stopClassic stops the one node that a classic queue lives on. Its consumer, on another
// node, is cancelled by the broker, is not ready, and consumes again when the node is back.
func stopClassic(t *testing.T, c *messagingtest.ClusterInfo) {
	t.Helper()
	declareOn(t, c.Nodes[1].URL, "local", amqp.Table{"x-queue-type": "classic", "x-queue-leader-locator": "client-local"})
	home := c.Leader(t, "local")
	conn := connectTo(t, c, c.Nodes[(home+1)%len(c.Nodes)].URL)
	got := make(chan string, 10)
	consumer, err := conn.Consume(messaging.Queue{Name: "local", Type: messaging.Classic}, messaging.HandlerFunc(
		func(_ context.Context, d *messaging.Delivery) error { got <- d.ID; return nil }))
	require.NoError(t, err)
	ready := func(want bool) func() (bool, string) {
		return func() (bool, string) {
			err := consumer.Ready()
			return (err == nil) == want, fmt.Sprint(err)
		}
	}
	messagingtest.Eventually(t, 20*time.Second, ready(true))
	c.Stop(t, home)
	messagingtest.Eventually(t, 20*time.Second, ready(false))
	require.Error(t, conn.Ready(), "and so does the connection")
	c.Start(t, home)
	messagingtest.Eventually(t, 45*time.Second, ready(true))
	sent := publishTo(t, conn, "local", "x")
	require.Equal(t, sent.ID, next(t, got))
}

// jobsClient publishes to the queue "jobs" and consumes it, and remembers both.
type jobsClient struct {
	t             *testing.T
	publisher     *messaging.Publisher
	subscriptions atomic.Int32

	mu      sync.Mutex
	tried   map[string]bool
	done    map[string]bool // confirmed
	handled map[string]int
}

func newJobsClient(t *testing.T, conn *messaging.Conn) *jobsClient {
	t.Helper()
	c := &jobsClient{t: t, publisher: publisher(t, conn), tried: map[string]bool{}, done: map[string]bool{}, handled: map[string]int{}}
	_, err := conn.Consume(messaging.Queue{Name: "jobs", Type: messaging.Quorum}, messaging.HandlerFunc(
		func(_ context.Context, d *messaging.Delivery) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.handled[d.ID]++
			return nil
		}), messaging.Concurrency(4), messaging.OnSubscribe(func() { c.subscriptions.Add(1) }))
	require.NoError(t, err)
	return c
}

func (c *jobsClient) confirmed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.done)
}

// publish publishes one message after another until ctx is done.
func (c *jobsClient) publish(ctx context.Context) {
	for ctx.Err() == nil {
		m, err := messaging.NewMessage(work, "x")
		if err != nil {
			c.t.Error(err)
			return
		}
		c.mu.Lock()
		c.tried[m.ID] = true
		c.mu.Unlock()
		if err := c.publisher.Publish(ctx, messaging.Route{Key: "jobs"}, m); err == nil {
			c.mu.Lock()
			c.done[m.ID] = true
			c.mu.Unlock()
		}
	}
}

// compareJobs waits until what was confirmed to any client was handled by one, and
// refuses what nobody has published.
func compareJobs(t *testing.T, clients []*jobsClient) {
	t.Helper()
	tried, done, handled := map[string]bool{}, map[string]bool{}, map[string]int{}
	messagingtest.Eventually(t, 45*time.Second, func() (bool, string) {
		clear(handled)
		for _, c := range clients {
			c.mu.Lock()
			maps.Copy(tried, c.tried)
			maps.Copy(done, c.done)
			for id, n := range c.handled {
				handled[id] += n
			}
			c.mu.Unlock()
		}
		missing := 0
		for id := range done {
			if handled[id] == 0 {
				missing++
			}
		}
		return missing == 0, fmt.Sprintf("%d of %d confirmed were not handled", missing, len(done))
	})
	twice := 0
	for id, n := range handled {
		require.True(t, tried[id], "a message that nobody has published")
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d published, %d confirmed, all of them handled, %d more than once", len(tried), len(done), twice)
}

func declareOn(t *testing.T, url, queue string, arguments amqp.Table) {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	require.NoError(t, err)
	_, err = ch.QueueDeclare(queue, true, false, false, false, arguments)
	require.NoError(t, err)
}

func connectTo(t *testing.T, c *messagingtest.ClusterInfo, urls ...string) *messaging.Conn {
	t.Helper()
	return c.Nodes[0].Connect(t, messaging.Config{URLs: urls, Name: "test"})
}
