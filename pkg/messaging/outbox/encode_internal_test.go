package outbox

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging"
)

// What is added comes back as it was, or is refused.
func FuzzEncode(f *testing.F) {
	f.Add("id", "header", "$int64", int64(1), 1.5, []byte("body"), uint8(4), true, int64(1000))
	f.Add("\x00", "\xff", "$table", int64(math.MaxInt64), math.Copysign(0, -1), []byte(nil), uint8(255), false, int64(-1))
	f.Add("", "", "", int64(math.MinInt64), math.SmallestNonzeroFloat64, []byte{0}, uint8(0), false, int64(0))
	f.Fuzz(func(t *testing.T, id, text, name string, n int64, x float64, body []byte, small uint8, flag bool, expiration int64) {
		in := messaging.Message{
			ID: id, CorrelationID: text, Priority: small, Transient: flag, Body: body, Expiration: time.Duration(expiration),
			Headers: map[string]any{
				name: text, "int64": n, "int32": int32(n), "int16": int16(n), "int8": int8(n), "uint8": small, "uint16": uint16(n), "uint32": uint32(n),
				"float64": x, "float32": float32(x), "bool": flag, "nil": nil, "bytes": append([]byte{}, body...), "list": []any{text, n, []any{x}},
				"time": time.Unix(n%1e10, 0).UTC(), "table": amqp.Table{name: n}, "lookalike": amqp.Table{"$table": amqp.Table{name: text}},
			},
		}
		encoded, err := encode(in)
		if err != nil {
			if !errors.Is(err, messaging.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(encoded) {
			t.Fatalf("not JSON: %s", encoded)
		}
		out, err := decode(encoded)
		if err != nil {
			t.Fatalf("%v of %s", err, encoded)
		}
		in.Headers = amqp.Table(in.Headers)
		out.Headers = amqp.Table(out.Headers)
		if len(in.Body) == 0 {
			in.Body, out.Body = nil, nil
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("%+v came back as %+v by %s", in, out, encoded)
		}
	})
}

func TestEncodeIsReadable(t *testing.T) {
	t.Parallel()
	encoded, err := encode(messaging.Message{ID: "x", Headers: map[string]any{
		"count": 5, "at": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), "raw": []byte{1, 2}, "name": "n", "table": amqp.Table{"deep": true},
		"labels": map[string]string{"a": "b"}, "counts": []int{1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Headers json.RawMessage }
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	const want = `{"at":{"$time":"2026-01-02T15:04:05Z"},"count":{"$int64":5},"counts":[{"$int64":1}],"labels":{"a":"b"},"name":"n","raw":{"$bytes":"AQI="},"table":{"deep":true}}`
	if string(got.Headers) != want {
		t.Fatalf("%s", got.Headers)
	}
}

// The reason for a refusal may be any bytes of the broker's or a message's.
func TestStorable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"plain ü": "plain ü", "a\x00b": "a\uFFFDb", "half of \xc3": "half of \uFFFD", "": ""} {
		if got := storable(text); got != want || invalidText(got) != nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}
