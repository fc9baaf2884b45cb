package watermill_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

func TestMain(m *testing.M) {
	messagingtest.Main(m, "github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2")
}

// A test of Watermill for a publisher and a subscriber.
type universal func(*testing.T, tests.TestContext, tests.PubSubConstructor)

// everyQueue has the tests that pass on every queue. One of Watermill's 16 tests passes on none:
// TestNewSubscriberReceivesOldMessages. A queue delivers a message to one subscriber only; a
// stream keeps it, but is read without Ack and Nack.
var everyQueue = map[string]universal{
	"PublishSubscribe":                  tests.TestPublishSubscribe,
	"ConcurrentSubscribe":               tests.TestConcurrentSubscribe,
	"ConcurrentSubscribeMultipleTopics": tests.TestConcurrentSubscribeMultipleTopics,
	"ResendOnError":                     tests.TestResendOnError,
	"ContinueAfterSubscribeClose":       tests.TestContinueAfterSubscribeClose,
	"ConcurrentClose":                   tests.TestConcurrentClose,
	"PublisherClose":                    tests.TestPublisherClose,
	"Topic":                             tests.TestTopic,
	"MessageCtx":                        tests.TestMessageCtx,
	"SubscribeCtx":                      tests.TestSubscribeCtx,
}

// competing has the tests that need no order.
var competing = map[string]universal{
	"ContinueAfterErrors": tests.TestContinueAfterErrors,
}

// ordered has the tests that need order. ContinueAfterErrors does not pass: it answers one message
// with 300 Nacks, since the next one waits for it, and a consumer that keeps order tries a message
// for 75 s and then parks it.
var ordered = map[string]universal{
	"PublishSubscribeInOrder": tests.TestPublishSubscribeInOrder,
	"NoAck":                   tests.TestNoAck,
}

func TestWorkQueue(t *testing.T) {
	t.Parallel()
	c := connect(t, messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{
		Limit: messaging.Unlimited, MinDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Millisecond}},
		messaging.Concurrency(10), messaging.HandlerTimeout(0))
	c.run(t, tests.Features{Persistent: true, ConsumerGroups: true}, everyQueue, competing)
	t.Run("ConsumerGroups", func(t *testing.T) {
		t.Parallel()
		tests.TestConsumerGroups(t, testContext(tests.Features{Persistent: true, ConsumerGroups: true}), c.group)
	})
}

func TestSingleActiveConsumer(t *testing.T) {
	t.Parallel()
	c := connect(t, messaging.Queue{Type: messaging.Quorum, SingleActiveConsumer: true}, messaging.HandlerTimeout(0))
	c.run(t, tests.Features{Persistent: true, GuaranteedOrder: true}, everyQueue, ordered)
}

// The broker is restarted twice while 100 goroutines publish, so no other test may run.
func TestReconnect(t *testing.T) { //nolint:paralleltest // see above
	c := connect(t, messaging.Queue{Type: messaging.Quorum}, messaging.Concurrency(10), messaging.HandlerTimeout(0))
	restart := fmt.Sprintf("docker restart $(docker ps -q --filter label=messagingtest.owner=%s)", owner.Name())
	tests.TestReconnect(t, testContext(tests.Features{Persistent: true, RestartServiceCommand: []string{"sh", "-c", restart}}), c.pubSub)
}

func testContext(features tests.Features) tests.TestContext {
	return tests.TestContext{TestID: tests.NewTestID(), Features: features}
}

// constructor makes publishers and subscribers of one virtual host.
type constructor struct {
	conn  *messaging.Conn
	queue messaging.Queue
	opts  []messaging.ConsumeOption
}

func connect(t *testing.T, q messaging.Queue, opts ...messaging.ConsumeOption) *constructor {
	t.Helper()
	b := messagingtest.Broker(t)
	return &constructor{b.Connect(t, b.Config()), q, opts}
}

// declare declares the exchange of a topic and the queue of a group. It can be repeated.
func (c *constructor) declare(topic string, q messaging.Queue) error {
	return c.conn.Declare(within(closeTimeout), messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: topic, Kind: messaging.Fanout}},
		Queues:    []messaging.Queue{q},
		Bindings:  []messaging.Binding{{Source: topic, Destination: q.Name}},
	})
}

func (c *constructor) pubSub(t *testing.T) (message.Publisher, message.Subscriber) {
	t.Helper()
	return c.group(t, "group")
}

func (c *constructor) group(t *testing.T, name string) (message.Publisher, message.Subscriber) {
	t.Helper()
	q := c.queue
	q.Name = name
	p, err := c.conn.Publisher()
	require.NoError(t, err)
	return publisher{p}, &subscriber{conn: c.conn, declare: c.declare, queue: q, opts: c.opts, closing: make(chan struct{})}
}

func (c *constructor) run(t *testing.T, features tests.Features, all ...map[string]universal) {
	t.Helper()
	for _, some := range all {
		for name, test := range some {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, testContext(features), c.pubSub)
			})
		}
	}
}
