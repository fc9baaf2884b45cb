package messaging

import (
	"context"
	"encoding/json"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A header table may hold anything: a sender writes what it likes, also under the
// names that the broker uses.
func FuzzNewDelivery(f *testing.F) {
	f.Add("60000", "jobs", "expired", int64(1), int64(3), true, []byte("{}"))
	f.Add("-1", "", "", int64(-5), int64(1<<62), false, []byte(nil))
	f.Add("not a number", "\x00", "\xff", int64(0), int64(0), true, []byte("x"))
	f.Fuzz(func(t *testing.T, expiration, queue, reason string, count, offset int64, redelivered bool, body []byte) {
		for _, death := range []any{
			nil, queue, count, []any{}, []any{queue}, []any{nil, amqp.Table{"queue": count}},
			[]any{amqp.Table{"queue": queue, "reason": reason, "count": count}},
			[]any{amqp.Table{"queue": queue, "reason": reason, "count": body}},
		} {
			for _, counted := range []any{nil, count, int32(count), int16(count), int8(count), byte(count), queue, body, 1.5} {
				d := newDelivery(amqp.Delivery{
					Expiration: expiration, Redelivered: redelivered, Body: body,
					Headers: amqp.Table{"x-death": death, "x-delivery-count": counted, "x-acquired-count": counted, "x-stream-offset": offset},
				}, queue)
				if d.Queue != queue || string(d.Body) != string(body) || d.Offset != offset {
					t.Fatalf("changed on the way: %+v", d)
				}
				for _, death := range d.Deaths {
					if death.Queue == "" || death.Reason == "" {
						t.Fatalf("an empty death: %+v", d.Deaths)
					}
				}
			}
		}
	})
}

// Whatever a message says of itself, the mux hands it to its handler or gives a
// permanent error.
func FuzzMux(f *testing.F) {
	kind := MessageType{Name: "charge.v1", Exchange: "commands", Owner: "orders"}
	f.Add("charge.v1", "orders", "commands", "application/json", []byte(`{"amount":7}`))
	f.Add("charge.v2", "", "", "text/plain", []byte(`{`))
	f.Add("charge.v1", "orders", "commands", "application/json", []byte(`{"amount":"x"}`))
	f.Fuzz(func(t *testing.T, typ, user, exchange, contentType string, body []byte) {
		handled := false
		mux := NewMux("operator")
		type charge struct {
			Amount int `json:"amount"`
		}
		mux.Handle(kind, JSON(func(context.Context, *Delivery, charge) error {
			handled = true
			return nil
		}))
		err := mux.Handler().Handle(t.Context(), &Delivery{
			Message: Message{Type: typ, UserID: user, ContentType: contentType, Body: body}, Exchange: exchange,
		})
		trusted := user == "orders" && exchange == "commands" || user == "operator" && (exchange == "" || exchange == "commands")
		switch {
		case err == nil && (!handled || !trusted || typ != "charge.v1" || !json.Valid(body)):
			t.Fatal("handled what it should not have")
		case err != nil && (handled || !IsPermanent(err)):
			t.Fatalf("neither handled nor permanent: %v", err)
		}
	})
}

// A message survives the outbox, which keeps it as JSON.
func FuzzMessageJSON(f *testing.F) {
	f.Add("id", "type", "key", []byte("body"), uint8(4), true, int64(1000))
	f.Add("", "", "\x00\xff", []byte(nil), uint8(255), false, int64(-1))
	f.Fuzz(func(t *testing.T, id, typ, header string, body []byte, priority uint8, transient bool, expiration int64) {
		in := Message{ID: id, Type: typ, Body: body, Priority: priority, Transient: transient, Headers: map[string]any{"h": header}}
		encoded, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out Message
		if err := json.Unmarshal(encoded, &out); err != nil {
			t.Fatal(err)
		}
		if string(out.Body) != string(body) || out.Priority != priority || out.Transient != transient {
			t.Fatalf("%+v came back as %+v", in, out)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, v := range []string{"4.3.6", "4.3.1", "4.3.0", "4.10.0", "5", "", "4.3.6-rc.1", "x.y.z", "4..3"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, version string) {
		if atLeast(version, MinBrokerVersion) && !atLeast(version, "4.3") {
			t.Fatalf("%q is at least %s and not at least 4.3", version, MinBrokerVersion)
		}
	})
}
