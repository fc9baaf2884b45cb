package messaging_test

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// What validation lets through arrives as it was, at a consumer whose connection lives on:
// numbers of every type, the deepest and longest tables, the largest body.
func TestWhatIsLetThroughArrives(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	core, logs := observer.New(zap.WarnLevel)
	config := b.Config()
	config.Logger = zap.New(core)
	conn := b.Connect(t, config)
	got := make(chan *messaging.Delivery, 1)
	_, err := conn.Consume(messaging.Queue{Name: "jobs"}, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		got <- d
		return nil
	}))
	require.NoError(t, err)
	p := publisher(t, conn)
	send := func(m messaging.Message) *messaging.Delivery {
		t.Helper()
		require.NoError(t, p.Publish(within(t, time.Minute), messaging.Route{Key: "jobs"}, m))
		d := next(t, got)
		require.Equal(t, m.ID, d.ID)
		return d
	}
	at := time.Unix(-5, 0)
	for name, c := range map[string]struct{ sent, want any }{
		"an int of 32 bits":        {7, int64(7)},
		"an int of more":           {3_000_000_000, int64(3_000_000_000)},
		"the smallest int":         {math.MinInt64, int64(math.MinInt64)},
		"a uint":                   {uint(math.MaxInt64), int64(math.MaxInt64)},
		"a uint64":                 {uint64(7), int64(7)},
		"a uint32":                 {uint32(math.MaxUint32), uint32(math.MaxUint32)},
		"a uint16":                 {uint16(math.MaxUint16), uint16(math.MaxUint16)},
		"a byte":                   {byte(200), byte(200)},
		"an int8":                  {int8(-7), int8(-7)},
		"a float32":                {float32(1.1), float32(1.1)},
		"the largest float64":      {math.MaxFloat64, math.MaxFloat64},
		"nothing":                  {nil, nil},
		"no text":                  {"", ""},
		"bytes that are no text":   {[]byte{0xff, 0}, []byte{0xff, 0}},
		"text with a zero byte":    {"a\x00b", "a\x00b"},
		"an int in a list":         {[]any{1, []any{2}}, []any{int64(1), []any{int64(2)}}},
		"the longest list":         {slices.Repeat([]any{true}, 8192), slices.Repeat([]any{true}, 8192)},
		"the deepest list":         {nested(32, inList), nested(32, inList)},
		"a string of many letters": {strings.Repeat("ü", 60_000), strings.Repeat("ü", 60_000)},
	} {
		m := message(t, "x")
		m.Headers = map[string]any{"h": c.sent}
		before := maps.Clone(m.Headers)
		d := send(m)
		require.Equal(t, c.want, d.Headers["h"], name)
		require.Equal(t, before, m.Headers, "%s: what the caller has", name)
	}
	m := message(t, "x")
	m.Headers = map[string]any{"at": at, "deep": map[string]any{"n": 1}, "deepest": nested(32, inTable)}
	m.Timestamp = at
	d := send(m)
	require.WithinDuration(t, at, d.Timestamp, 0)
	require.WithinDuration(t, at, d.Headers["at"].(time.Time), 0)
	require.EqualValues(t, map[string]any{"n": int64(1)}, d.Headers["deep"])
	m = message(t, "x")
	m.Headers = headers(8128)
	require.Len(t, send(m).Headers, 8128)
	m = message(t, "x")
	m.Body = make([]byte, 16<<20)
	require.Len(t, send(m).Body, 16<<20)
	require.Empty(t, logs.All())
}

// A message with everything at its largest that fails, is dead-lettered by the broker and
// read from there: the broker's own headers must still fit, or no reader could ever get it.
func TestTheLargestHeadersSurviveAttemptsAndDeath(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	long := func(s string) string { return s + strings.Repeat("x", 255-len(s)) }
	work, dead, exchange := long("work"), long("dead"), long("exchange")
	require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: exchange, Kind: messaging.Direct}},
		Queues: []messaging.Queue{
			{Name: dead, Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
			{Name: work, Type: messaging.Quorum, Retry: messaging.Retry{Limit: 1}, Overflow: messaging.RejectPublish, DeadLetter: &messaging.DeadLetter{Exchange: exchange, Key: long("key")}},
		},
		Bindings: []messaging.Binding{{Source: exchange, Destination: dead, Key: long("key")}},
	}))
	conn := b.Connect(t, b.Config())
	m := message(t, "x")
	m.ID, m.Type, m.CorrelationID, m.ReplyTo, m.AppID, m.ContentType, m.ContentEncoding = long("i"), long("t"), long("c"), long("r"), long("a"), long("c"), long("e")
	m.Expiration, m.Priority = time.Hour, 4
	m.Headers = map[string]any{"h": strings.Repeat("v", 124<<10-2*5-2)}
	require.NoError(t, publisher(t, conn).Publish(within(t, time.Minute), messaging.Route{Key: work}, m))
	m.Headers["h"] = m.Headers["h"].(string) + "v"
	require.ErrorIs(t, publisher(t, conn).Publish(within(t, time.Minute), messaging.Route{Key: work}, m), messaging.ErrInvalid)

	failing := raw(t, b)
	for range 2 { // by hand, so that the broker dead-letters it and nobody parks it
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			d, ok, err := failing.Get(work, false)
			require.NoError(t, err)
			if ok {
				require.NoError(t, d.Reject(true))
			}
			return ok, "empty"
		})
	}
	read := make(chan *messaging.Delivery, 1)
	_, err := conn.Consume(messaging.Queue{Name: dead}, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		read <- d
		return nil
	}))
	require.NoError(t, err)
	require.Equal(t, work, next(t, read).Deaths[0].Queue)
}

// What a stream would end the connection over is refused, and what it takes is read.
func TestHeadersOfAStream(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	stream := messaging.Queue{Name: "log", Type: messaging.Stream}
	require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), messaging.Topology{Queues: []messaging.Queue{stream}}))
	conn := b.Connect(t, b.Config())
	p := publisher(t, conn)
	m := message(t, "x")
	m.Headers = headers(8128) // the broker adds the offset
	m.Headers["x-stream-filter-value"], m.Headers["x-basic-type"], m.Headers["n"] = "eu", "kind", 3_000_000_000
	delete(m.Headers, "0")
	delete(m.Headers, "1")
	delete(m.Headers, "2")
	m.Timestamp = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, p.Publish(within(t, time.Minute), messaging.Route{Key: "log"}, m))
	for d, err := range conn.Stream(within(t, time.Minute), stream, messaging.FirstOffset()) {
		require.NoError(t, err)
		require.Equal(t, m.ID, d.ID)
		require.EqualValues(t, 3_000_000_000, d.Headers["n"])
		require.WithinDuration(t, m.Timestamp, d.Timestamp, 0)
		break
	}
}

// The body's limit is a setting, as it is the broker's.
func TestMaxMessageSize(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	config := b.Config()
	config.MaxMessageSize = 100
	p := publisher(t, b.Connect(t, config))
	m := message(t, "x")
	m.Body = make([]byte, 101)
	others := p.PublishAsync(within(t, time.Minute), messaging.Route{Key: "jobs"}, message(t, "x"))
	err := p.Publish(within(t, time.Minute), messaging.Route{Key: "jobs"}, m)
	require.ErrorIs(t, err, messaging.ErrInvalid)
	require.ErrorContains(t, err, "Message.Body: has 101 bytes, the broker accepts at most 100")
	require.NoError(t, others.Wait(within(t, time.Minute)))
	m.Body = m.Body[:100]
	require.NoError(t, p.Publish(within(t, time.Minute), messaging.Route{Key: "jobs"}, m))
}
