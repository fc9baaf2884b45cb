package messaging_test

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

// nested is a value inside of so many lists or tables.
func nested(depth int, in func(any) any) any {
	var value any = true
	for range depth {
		value = in(value)
	}
	return value
}

func inList(v any) any  { return []any{v} }
func inTable(v any) any { return map[string]any{"t": v} }

// headers are so many.
func headers(n int) map[string]any {
	h := map[string]any{}
	for i := range n {
		h[strconv.Itoa(i)] = nil
	}
	return h
}

func TestMessageValidate(t *testing.T) {
	t.Parallel()
	header := func(value any) func(*messaging.Route, *messaging.Message) {
		return func(_ *messaging.Route, m *messaging.Message) { m.Headers = map[string]any{"h": value} }
	}
	named := func(name string, value any) func(*messaging.Route, *messaging.Message) {
		return func(_ *messaging.Route, m *messaging.Message) { m.Headers = map[string]any{name: value} }
	}
	long := strings.Repeat("é", 128)
	for _, c := range []struct {
		name   string
		mutate func(r *messaging.Route, m *messaging.Message)
		want   string // empty for what is carried
	}{
		{"as it is", func(*messaging.Route, *messaging.Message) {}, ""},
		{"no id", func(_ *messaging.Route, m *messaging.Message) { m.ID = "" }, "Message.ID: must not be empty"},
		{"a long exchange", func(r *messaging.Route, _ *messaging.Message) { r.Exchange = long }, "Route.Exchange: has 256 bytes"},
		{"the longest exchange", func(r *messaging.Route, _ *messaging.Message) { r.Exchange = strings.Repeat("é", 127) }, ""},
		{"an exchange of two lines", func(r *messaging.Route, _ *messaging.Message) { r.Exchange = "a\nb" }, "Route.Exchange: holds a control character"},
		{"an odd exchange", func(r *messaging.Route, _ *messaging.Message) { r.Exchange = "Größe 📦/+?#%.." }, ""},
		{"a long key", func(r *messaging.Route, _ *messaging.Message) { r.Key = long }, "Route.Key: has 256 bytes"},
		{"a key of two lines", func(r *messaging.Route, _ *messaging.Message) { r.Key = "a\nb" }, ""},
		{"a key that is not UTF-8", func(r *messaging.Route, _ *messaging.Message) { r.Key = "a\xff" }, "Route.Key: is not UTF-8"},
		{"an id with a zero byte", func(_ *messaging.Route, m *messaging.Message) { m.ID = "a\x00" }, "Message.ID: holds a zero byte"},
		{"a type that is not UTF-8", func(_ *messaging.Route, m *messaging.Message) { m.Type = "\xff" }, "Message.Type: is not UTF-8"},
		{"a long correlation", func(_ *messaging.Route, m *messaging.Message) { m.CorrelationID = long }, "Message.CorrelationID"},
		{"a long user", func(_ *messaging.Route, m *messaging.Message) { m.UserID = long }, "Message.UserID"},
		{"a long application", func(_ *messaging.Route, m *messaging.Message) { m.AppID = long }, "Message.AppID"},
		{"a content type that is not UTF-8", func(_ *messaging.Route, m *messaging.Message) { m.ContentType = "\xff" }, "Message.ContentType"},
		{"a content encoding with a zero byte", func(_ *messaging.Route, m *messaging.Message) { m.ContentEncoding = "\x00" }, "Message.ContentEncoding"},
		{"a long reply-to", func(_ *messaging.Route, m *messaging.Message) { m.ReplyTo = long }, "Message.ReplyTo"},
		{"direct reply-to", func(_ *messaging.Route, m *messaging.Message) { m.ReplyTo = "amq.rabbitmq.reply-to" }, "Message.ReplyTo: only a Caller"},
		{"an answer's way back", func(_ *messaging.Route, m *messaging.Message) { m.ReplyTo = "amq.rabbitmq.reply-to.g1h2" }, ""},
		{"expired before it is sent", func(_ *messaging.Route, m *messaging.Message) { m.Expiration = -1 }, "Message.Expiration: must not be negative"},
		{"expires after ten years", func(_ *messaging.Route, m *messaging.Message) { m.Expiration = 10 * 365 * 24 * time.Hour }, ""},
		{"expires later", func(_ *messaging.Route, m *messaging.Message) { m.Expiration = 10*365*24*time.Hour + 1 }, "Message.Expiration: the broker accepts at most"},
		{"made in 1969", func(_ *messaging.Route, m *messaging.Message) { m.Timestamp = time.Unix(-1, 0) }, ""},
		{"made in no year of JSON", func(_ *messaging.Route, m *messaging.Message) { m.Timestamp = time.Unix(1<<55, 0) }, "Message.Timestamp: the year"},
		{"the largest body", func(_ *messaging.Route, m *messaging.Message) { m.Body = make([]byte, 16<<20) }, ""},
		{"a larger body", func(_ *messaging.Route, m *messaging.Message) { m.Body = make([]byte, 16<<20+1) }, "Message.Body: has 16777217 bytes, the broker accepts at most 16777216"},
		{"a header of no type", header(struct{}{}), `Message.Headers: "h": AMQP has no type for a struct {}`},
		{"a header of a type of ours", header(messaging.Acked), "AMQP has no type for a messaging.Verdict"},
		{"the largest integer", header(uint64(math.MaxInt64)), ""},
		{"a larger integer", header(uint64(math.MaxInt64) + 1), "more than AMQP's largest integer"},
		{"a larger integer of the machine's size", header(uint(math.MaxUint)), "more than AMQP's largest integer"},
		{"not a number", header(math.NaN()), `"h": NaN is no number`},
		{"infinity", header(float32(math.Inf(-1))), `"h": -Inf is no number`},
		{"a decimal", header(amqp.Decimal{Value: 1}), `"h": with a decimal`},
		{"text that is not UTF-8", header("a\xff"), `"h": is not UTF-8: use a []byte for bytes`},
		{"bytes that are not UTF-8", header([]byte("a\xff")), ""},
		{"text with a zero byte", header("a\x00"), ""},
		{"a time beyond JSON", header(time.Unix(1<<55, 0)), `"h": the year`},
		{"a long name", named(long, true), "has 256 bytes"},
		{"a name that is not UTF-8", named("a\xff", true), "is not UTF-8"},
		{"a wrong value deep inside", header([]any{1, map[string]any{"deep": []any{math.NaN()}}}), `"h": element 1: "deep": element 0: NaN`},
		{"lists in lists", header(nested(32, inList)), ""},
		{"lists in more lists", header(nested(33, inList)), "nested deeper than 32"},
		{"tables in tables", header(nested(32, inTable)), ""},
		{"tables in more tables", header(nested(33, inTable)), "nested deeper than 32"},
		{"a long list", header(slices.Repeat([]any{true}, 8192)), ""},
		{"a longer list", header(slices.Repeat([]any{true}, 8193)), "has 8193 elements, at most 8192"},
		{"many headers", func(_ *messaging.Route, m *messaging.Message) { m.Headers = headers(8128) }, ""},
		{"too many headers", func(_ *messaging.Route, m *messaging.Message) { m.Headers = headers(8129) }, "has 8129 elements, at most 8128"},
		{"CC as the broker wants it", named("CC", []any{"a", "b"}), ""},
		{"CC as text", named("CC", "a"), `"CC": must be a list`},
		{"BCC of numbers", named("BCC", []any{1}), `"BCC": must be a list`},
		{"CC with a long key", named("CC", []any{long}), `"CC": has 256 bytes`},
		{"CC that the broker could not repeat", named("CC", slices.Repeat([]any{strings.Repeat("k", 200)}, 400)), "fit into a frame"},
		{"a filter that a stream cannot read", named("x-stream-filter-value", 1), `"x-stream-filter-value": must be a string`},
		{"a type that a stream cannot read", named("x-basic-type", 1), `"x-basic-type": must be a string`},
		{"a table that holds itself", func(_ *messaging.Route, m *messaging.Message) {
			loop := map[string]any{}
			loop["a"], loop["b"] = loop, loop
			m.Headers = loop
		}, "nested deeper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			route, m := messaging.Route{Exchange: "x", Key: "k"}, message(t, "x")
			c.mutate(&route, &m)
			err := m.Validate(route)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, messaging.ErrInvalid)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Validate does not change the headers, also not numbers that are sent as another type.
func TestValidateLeavesHeadersAlone(t *testing.T) {
	t.Parallel()
	m := message(t, "x")
	m.Headers = map[string]any{"n": 1, "deep": map[string]any{"n": uint(2)}, "list": []any{3}}
	before := map[string]any{"n": 1, "deep": map[string]any{"n": uint(2)}, "list": []any{3}}
	require.NoError(t, m.Validate(messaging.Route{}))
	require.Equal(t, before, maps.Clone(m.Headers))
}
