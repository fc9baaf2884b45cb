package messaging_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestPublishOutcomes(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	_, err := ch.QueueDeclare("full", true, false, false, false, amqp.Table{
		"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish",
	})
	require.NoError(t, err)
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 20*time.Second)

	t.Run("stored", func(t *testing.T) {
		m := message(t, "x")
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, m))
		got := get(t, ch, "jobs")
		require.Equal(t, m.ID, got.MessageId)
		require.Equal(t, owner, got.UserId, "filled in by the publisher")
		require.Equal(t, amqp.Persistent, got.DeliveryMode)
	})
	t.Run("unroutable", func(t *testing.T) {
		m := message(t, "x")
		err := p.Publish(ctx, messaging.Route{Key: "nowhere"}, m)
		require.ErrorIs(t, err, messaging.ErrUnroutable)
		var returned *messaging.ReturnedError
		require.ErrorAs(t, err, &returned)
		require.Equal(t, m.ID, returned.MessageID)
		require.EqualValues(t, amqp.NoRoute, returned.Code)
	})
	t.Run("unroutable and allowed", func(t *testing.T) {
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "nowhere"}, message(t, "x"), messaging.AllowUnroutable()))
	})
	t.Run("nacked by a full queue", func(t *testing.T) {
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "full"}, message(t, "x")))
		require.ErrorIs(t, p.Publish(ctx, messaging.Route{Key: "full"}, message(t, "y")), messaging.ErrNacked)
	})
	t.Run("a missing exchange fails its message and the publisher goes on", func(t *testing.T) {
		err := p.Publish(ctx, messaging.Route{Exchange: "missing"}, message(t, "x"))
		require.ErrorIs(t, err, messaging.ErrRefused)
		require.NotErrorIs(t, err, messaging.ErrConnectionLost, "the outcome is known")
		require.ErrorContains(t, err, "no exchange 'missing'")
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x")))
	})
	t.Run("a header that AMQP cannot carry", func(t *testing.T) {
		m := message(t, "x")
		m.Headers = map[string]any{"bad": struct{}{}}
		require.ErrorContains(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, m), "Headers")
	})
	t.Run("names that are too long, and no id", func(t *testing.T) {
		m := message(t, "x")
		require.ErrorContains(t, p.Publish(ctx, messaging.Route{Key: strings.Repeat("k", 256)}, m), "Route.Key")
		m.ID = ""
		require.ErrorContains(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, m), "Message.ID")
	})
	t.Run("headers that would cost the connection", func(t *testing.T) {
		long := strings.Repeat("k", 256)
		for name, headers := range map[string]map[string]any{
			"a long name":              {long: true},
			"a long name in a table":   {"deep": amqp.Table{long: true}},
			"a long name in a list":    {"list": []any{amqp.Table{long: true}}},
			"more than fits a frame":   {"large": strings.Repeat("v", 128<<10)},
			"many small ones in lists": {"list": slices.Repeat([]any{[]any{"", true}}, 20_000)},
		} {
			m := message(t, "x")
			m.Headers = headers
			err := p.Publish(ctx, messaging.Route{Key: "jobs"}, m)
			require.ErrorIs(t, err, messaging.ErrInvalid, name)
			require.ErrorContains(t, err, "Message.Headers", name)
		}
	})
	t.Run("the largest headers, with the longest of everything else", func(t *testing.T) {
		long := strings.Repeat("x", 255)
		m := message(t, "x")
		m.ID, m.Type, m.CorrelationID, m.ReplyTo, m.AppID, m.ContentType, m.ContentEncoding = long, long, long, long, long, long, long
		m.Expiration, m.Priority = time.Hour, 4
		m.Headers = map[string]any{long: strings.Repeat("v", 124<<10-2*5-1-255)} // two lengths, and the name with its own
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, m))
		m.Headers[long] = m.Headers[long].(string) + "v"
		require.ErrorIs(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, m), messaging.ErrInvalid)
	})
	t.Run("each of several with one id gets its own outcome", func(t *testing.T) {
		m := message(t, "x")
		stored := p.PublishAsync(ctx, messaging.Route{Key: "jobs"}, m)
		lost := p.PublishAsync(ctx, messaging.Route{Key: "nowhere"}, m)
		again := p.PublishAsync(ctx, messaging.Route{Key: "nowhere"}, m)
		require.NoError(t, stored.Wait(ctx))
		require.ErrorIs(t, lost.Wait(ctx), messaging.ErrUnroutable)
		require.ErrorIs(t, again.Wait(ctx), messaging.ErrUnroutable)
	})
	t.Run("a batch", func(t *testing.T) {
		require.NoError(t, p.PublishBatch(ctx, messaging.Route{Key: "jobs"}, []messaging.Message{message(t, 1), message(t, 2)}))
		err := p.PublishBatch(ctx, messaging.Route{Key: "nowhere"}, []messaging.Message{message(t, 1), message(t, 2)})
		require.ErrorIs(t, err, messaging.ErrUnroutable)
	})
	t.Run("after Close", func(t *testing.T) {
		closed := publisher(t, b.Connect(t, b.Config()))
		require.NoError(t, closed.Close(ctx))
		require.ErrorIs(t, closed.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x")), messaging.ErrClosed)
	})
}

func TestReturnsAreJoinedByMessageID(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 30*time.Second)

	var confirmations []*messaging.Confirmation
	for i := range 1000 {
		key := "jobs"
		if i%3 == 0 {
			key = "nowhere"
		}
		confirmations = append(confirmations, p.PublishAsync(ctx, messaging.Route{Key: key}, message(t, i)))
	}
	for i, c := range confirmations {
		err := c.Wait(ctx)
		if i%3 == 0 {
			require.ErrorIs(t, err, messaging.ErrUnroutable, "message %d", i)
		} else {
			require.NoError(t, err, "message %d", i)
		}
	}
}

// A queue that does not confirm takes its own messages' places in the window, and no
// other ones.
func TestALateConfirmDoesNotHoldTheWindow(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	declare(t, ch, "frozen", 20)
	p := publisher(t, b.Connect(t, b.Config()), messaging.Window(4))
	ctx := within(t, 60*time.Second)
	require.NoError(t, p.Publish(ctx, messaging.Route{Key: "frozen"}, message(t, "the first of this channel")))
	thaw := b.Freeze(t, "frozen")

	late := []*messaging.Confirmation{
		p.PublishAsync(ctx, messaging.Route{Key: "frozen"}, message(t, "x")),
		p.PublishAsync(ctx, messaging.Route{Key: "frozen"}, message(t, "x")),
	}
	for range 100 {
		require.NoError(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x")))
	}
	var others []*messaging.Confirmation
	for range 100 { // nobody waits for these while they are sent
		others = append(others, p.PublishAsync(ctx, messaging.Route{Key: "jobs"}, message(t, "x")))
	}
	for _, c := range others {
		require.NoError(t, c.Wait(ctx))
	}
	for _, c := range late {
		select {
		case <-c.Done():
			t.Fatal("the queue was not frozen")
		default:
		}
	}
	thaw()
	for _, c := range late {
		require.NoError(t, c.Wait(ctx))
	}
}

func TestPublishSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 60*time.Second)

	confirmed := make(chan string, 1000)
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for range 100 {
				m := message(t, "x")
				for p.Publish(ctx, messaging.Route{Key: "jobs"}, m) != nil && ctx.Err() == nil {
				}
				confirmed <- m.ID
			}
		})
	}
	b.CloseAllConnections(t)
	publishers.Wait()
	close(confirmed)
	require.NoError(t, ctx.Err())

	stored := map[string]bool{}
	look := raw(t, b) // the first channel was closed with the others
	for {
		d, ok, err := look.Get("jobs", true)
		require.NoError(t, err)
		if !ok {
			break
		}
		stored[d.MessageId] = true
	}
	count := 0
	for id := range confirmed {
		require.True(t, stored[id], "confirmed but not stored: %s", id)
		count++
	}
	require.Equal(t, 400, count)
}

func TestPublishHonoursItsContextWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	proxy.Cut()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) { return conn.Ready() != nil, "still ready" })

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x")), context.DeadlineExceeded)

	proxy.Restore()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		err := conn.Ready()
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

func TestConnectRefusesAtOnce(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	t.Run("bad credentials", func(t *testing.T) {
		t.Parallel()
		config := b.Config()
		config.User, config.Password = "nobody", "wrong"
		// The broker answers each of the three attempts after 3 s, to slow down who guesses.
		_, err := messaging.Connect(within(t, 30*time.Second), config)
		require.ErrorContains(t, err, "403")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("a missing virtual host", func(t *testing.T) {
		t.Parallel()
		config := b.Config()
		config.URLs = []string{b.URL + "-missing"}
		_, err := messaging.Connect(within(t, 10*time.Second), config)
		require.ErrorContains(t, err, "vhost")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("no URL", func(t *testing.T) {
		t.Parallel()
		_, err := messaging.Connect(t.Context(), messaging.Config{})
		require.ErrorContains(t, err, "URLs")
	})
	t.Run("an unreachable broker is waited for", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := messaging.Connect(ctx, messaging.Config{URLs: []string{"amqp://127.0.0.1:1"}})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
