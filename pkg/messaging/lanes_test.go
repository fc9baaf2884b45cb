package messaging_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// missingExchange is an exchange that does not exist, and of which the broker cannot say
// so: its text is cut in the middle of a character, and it closes the connection (541).
var missingExchange = messaging.Route{Exchange: strings.Repeat("é", 115)}

// observed connects with a log to look into.
func observed(t *testing.T, b *messagingtest.BrokerInfo, config messaging.Config) (*messaging.Conn, *observer.ObservedLogs) {
	t.Helper()
	core, log := observer.New(zap.InfoLevel)
	config.Logger = zap.New(core)
	return b.Connect(t, config), log
}

// publishSteadily publishes from goroutines until it is stopped, and counts what is confirmed.
// No message may fail.
func publishSteadily(t *testing.T, p *messaging.Publisher, routes ...messaging.Route) (confirmed *atomic.Int64, stop func()) {
	t.Helper()
	confirmed = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	var publishers sync.WaitGroup
	for _, route := range routes {
		publishers.Go(func() {
			for ctx.Err() == nil {
				m, err := messaging.NewMessage(work, "x")
				if err == nil {
					err = p.Publish(context.WithoutCancel(ctx), route, m)
				}
				if err != nil {
					t.Errorf("to %+v: %v", route, err)
					return
				}
				confirmed.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); publishers.Wait() })
	t.Cleanup(stop)
	return confirmed, stop
}

// awaitMore waits until that many more are confirmed.
func awaitMore(t *testing.T, confirmed *atomic.Int64, more int64) {
	t.Helper()
	want := confirmed.Load() + more
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		n := confirmed.Load()
		return n >= want, fmt.Sprintf("%d of %d", n, want)
	})
}

// laneRoutes declares queues and gives routes to them: two by the default exchange, and two
// by exchanges.
func laneRoutes(t *testing.T, ch *amqp.Channel) []messaging.Route {
	t.Helper()
	routes := []messaging.Route{{Key: "q1"}, {Key: "q2"}, {Exchange: "q3"}, {Exchange: "q4"}}
	for n := range routes {
		name := fmt.Sprint("q", n+1)
		declare(t, ch, name, 20)
		require.NoError(t, ch.ExchangeDeclare(name, "fanout", true, false, false, false, nil))
		require.NoError(t, ch.QueueBind(name, "", name, false, nil))
	}
	return routes
}

func TestARefusedMessageStopsNoOtherLane(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	p := publisher(t, b.Connect(t, b.Config()))
	confirmed, stop := publishSteadily(t, p, laneRoutes(t, raw(t, b))...)
	for n := range 50 {
		err := p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: "missing", Key: fmt.Sprint(n)}, message(t, n))
		require.ErrorIs(t, err, messaging.ErrRefused)
		require.NotErrorIs(t, err, messaging.ErrConnectionLost, "which one it was is known")
		require.ErrorContains(t, err, "no exchange 'missing'")
	}
	awaitMore(t, confirmed, 100)
	stop()
}

func TestManyAtOnceToAnExchangeThatIsMissing(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 20*time.Second)
	var all []*messaging.Confirmation
	var publishing sync.WaitGroup
	var mu sync.Mutex
	for n := range 100 {
		publishing.Go(func() {
			m, err := messaging.NewMessage(work, n)
			if err != nil {
				t.Error(err)
			}
			c := p.PublishAsync(ctx, messaging.Route{Exchange: "missing"}, m)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, c)
		})
	}
	publishing.Wait()
	for _, c := range all {
		err := c.Wait(ctx)
		require.ErrorIs(t, err, messaging.ErrRefused)
		require.NotErrorIs(t, err, messaging.ErrConnectionLost)
	}
}

// Of several messages to one exchange the broker refuses one and does not say which.
// To publish them again one by one shows which it is.
func TestOneOfSeveralInALaneIsRefused(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	routes := laneRoutes(t, raw(t, b))
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 30*time.Second)
	route := routes[2]
	require.NoError(t, p.Publish(ctx, route, message(t, "the first of this channel")))
	var messages []messaging.Message
	var confirmations []*messaging.Confirmation
	for n := range 20 {
		m := message(t, n)
		if n == 10 {
			m.UserID = "somebody else"
		}
		messages = append(messages, m)
		confirmations = append(confirmations, p.PublishAsync(ctx, route, m))
	}
	for n, c := range confirmations {
		if err := c.Wait(ctx); n == 10 || err != nil {
			require.ErrorIs(t, err, messaging.ErrRefused)
		}
	}
	for n, m := range messages {
		err := p.Publish(ctx, route, m)
		if n == 10 {
			require.ErrorIs(t, err, messaging.ErrRefused)
			require.NotErrorIs(t, err, messaging.ErrConnectionLost)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestAMessageThatCostsTheConnectionStopsNoOtherLane(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn, log := observed(t, b, b.Config())
	p := publisher(t, conn)
	confirmed, stop := publishSteadily(t, p, laneRoutes(t, raw(t, b))...)
	for range 5 {
		err := p.Publish(within(t, 20*time.Second), missingExchange, message(t, "x"))
		require.ErrorIs(t, err, messaging.ErrRefused)
		require.NotErrorIs(t, err, messaging.ErrConnectionLost)
		require.ErrorContains(t, err, "541")
	}
	awaitMore(t, confirmed, 100)
	stop()
	for _, lost := range log.FilterMessage("connection lost").All() {
		require.Equal(t, "publish to exchange "+missingExchange.Exchange, lost.ContextMap()["connection"])
	}
}

// A message that costs the connection, to a queue that gets other messages as well. Messages
// in other lanes on this connection get an unknown outcome once. After that the lane of the
// queue has a connection of its own.
func TestAMessageThatCostsTheSharedConnectionDoesSoOnce(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	routes := laneRoutes(t, raw(t, b))
	conn, log := observed(t, b, b.Config())
	p := publisher(t, conn)
	ctx := within(t, 60*time.Second)
	for _, route := range routes {
		require.NoError(t, p.Publish(ctx, route, message(t, "x")))
	}
	fatal := message(t, "x")
	fatal.UserID = strings.Repeat("é", 100) // the broker cannot say that it is not ours
	err := p.Publish(ctx, routes[0], fatal)
	require.ErrorIs(t, err, messaging.ErrRefused)
	require.ErrorIs(t, err, messaging.ErrConnectionLost)
	confirmed, stop := publishSteadily(t, p, routes[1:]...)
	awaitMore(t, confirmed, 20)
	for range 3 {
		err = p.Publish(ctx, routes[0], fatal)
		require.ErrorIs(t, err, messaging.ErrRefused)
		require.NotErrorIs(t, err, messaging.ErrConnectionLost)
		require.NoError(t, p.Publish(ctx, routes[0], message(t, "another one")))
	}
	awaitMore(t, confirmed, 20)
	stop()
	shared := log.FilterMessage("connection lost").FilterField(zap.String("connection", "publish"))
	require.Equal(t, 1, shared.Len())
}

// The broker halts a channel that publishes for the first time to a queue without a
// leader. It does not even close it.
func TestAHaltedChannelStopsNoOtherLane(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]messaging.Route{
		"by the default exchange": {Key: "frozen"},
		"by an exchange":          {Exchange: "cold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			declare(t, ch, "frozen", 20)
			require.NoError(t, ch.ExchangeDeclare("cold", "fanout", true, false, false, false, nil))
			require.NoError(t, ch.QueueBind("frozen", "", "cold", false, nil))
			routes := laneRoutes(t, ch)
			b.Freeze(t, "frozen")
			config := b.Config()
			config.CallTimeout = time.Second // it would cost the connection
			conn, log := observed(t, b, config)
			p := publisher(t, conn)
			confirmed, stop := publishSteadily(t, p, routes...)

			other := publisher(t, conn)
			hurry := within(t, 2*time.Second)
			late := other.PublishAsync(hurry, frozen, message(t, "x"))
			require.ErrorIs(t, other.Publish(hurry, frozen, message(t, "y")), context.DeadlineExceeded)
			require.ErrorIs(t, late.Wait(hurry), context.DeadlineExceeded)
			awaitMore(t, confirmed, 100)
			require.ErrorIs(t, other.Close(hurry), context.DeadlineExceeded)
			require.ErrorIs(t, late.Wait(within(t, 5*time.Second)), messaging.ErrConnectionLost)
			select {
			case <-late.Done():
			case <-time.After(5 * time.Second):
				t.Error("a closed publisher leaves an outcome open")
			}
			more := time.Now().Add(3 * config.CallTimeout)
			for time.Now().Before(more) {
				awaitMore(t, confirmed, 20)
			}
			stop()
			require.Zero(t, log.FilterMessage("connection lost").FilterField(zap.String("connection", "publish")).Len())
			began := time.Now()
			require.NoError(t, conn.Close(within(t, 10*time.Second)))
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

// A queue stops confirming while many messages are sent to it. If its lane shared a connection
// with others, the broker would soon read nothing more from that connection.
func TestAFloodedQueueThatFreezesStopsNoOtherLane(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "frozen", 20)
	p := publisher(t, b.Connect(t, b.Config()))
	confirmed, stop := publishSteadily(t, p, laneRoutes(t, ch)...)
	flood, cancel := context.WithCancel(t.Context())
	var sent atomic.Int64
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for flood.Err() == nil {
			m, err := messaging.NewMessage(work, "x")
			if err != nil {
				t.Error(err)
			}
			p.PublishAsync(flood, messaging.Route{Key: "frozen"}, m)
			sent.Add(1)
		}
	})
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { return sent.Load() > 2000, "few are sent" })
	thaw := b.Freeze(t, "frozen")
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { // until the window is full
		n := sent.Load()
		<-time.After(200 * time.Millisecond)
		return sent.Load() == n, "still sending"
	})
	awaitMore(t, confirmed, 500)
	stop()
	thaw()
	awaitMore(t, &sent, 100)
	cancel()
	flooding.Wait()
}

// Messages of one goroutine keep their order while their lane moves to a connection of
// its own and back.
func TestOrderHoldsWhileALaneMoves(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	require.NoError(t, ch.ExchangeDeclare("x", "fanout", true, false, false, false, nil))
	require.NoError(t, ch.QueueBind("jobs", "", "x", false, nil))
	for _, route := range []messaging.Route{{Key: "jobs"}, {Exchange: "x"}} {
		p := publisher(t, b.Connect(t, b.Config()))
		ctx := within(t, 60*time.Second)
		const many = 600
		var all []*messaging.Confirmation
		for n := range many {
			all = append(all, p.PublishAsync(ctx, route, message(t, n)))
			if n < 100 { // slowly at first
				require.NoError(t, all[n].Wait(ctx))
			}
		}
		for _, c := range all {
			require.NoError(t, c.Wait(ctx))
		}
		for n := range many {
			d, ok, err := ch.Get("jobs", true)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, fmt.Sprint(n), string(d.Body))
		}
	}
}

// A lane that has much to send gets its own connection back after a loss.
func TestAFloodGetsItsOwnConnectionAgain(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	p := publisher(t, b.Connect(t, b.Config()))
	flood, cancel := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for flood.Err() == nil {
			m, err := messaging.NewMessage(work, "x")
			if err != nil {
				t.Error(err)
			}
			p.PublishAsync(flood, messaging.Route{Key: "jobs"}, m)
		}
	})
	defer func() { cancel(); flooding.Wait() }()
	own := func() string {
		out := b.Exec(t, "rabbitmqctl", "-q", "list_connections", "--no-table-headers", "vhost", "pid", "client_properties")
		for _, line := range strings.Split(out, "\n") {
			fields := strings.Split(line, "\t")
			if len(fields) == 3 && fields[0] == b.VHost && strings.Contains(fields[2], "/publish to queue jobs") {
				return fields[1]
			}
		}
		return ""
	}
	var before string
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { before = own(); return before != "", "none of its own" })
	b.CloseAllConnections(t)
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		after := own()
		return after != "" && after != before, "none of its own: " + after
	})
}
