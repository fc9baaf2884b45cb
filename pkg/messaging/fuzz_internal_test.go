package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

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
				if d.Queue != queue || string(d.Body) != string(body) || d.Offset != 0 { // a header is not believed: the reader of a stream knows
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
	f.Add("charge.v1", "orders", "commands", "application/json", "", []byte(`{"amount":7}`))
	f.Add("charge.v1", "orders", "commands", "application/json", "UTF-8", []byte(`{"amount":7}`))
	f.Add("charge.v1", "orders", "commands", "application/json", "gzip", []byte(`{"amount":7}`))
	f.Add("charge.v2", "", "", "text/plain", "", []byte(`{`))
	f.Add("charge.v1", "orders", "commands", "application/json", "", []byte(`{"amount":"x"}`))
	f.Fuzz(func(t *testing.T, typ, user, exchange, contentType, contentEncoding string, body []byte) {
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
			Message: Message{Type: typ, UserID: user, ContentType: contentType, ContentEncoding: contentEncoding, Body: body}, Exchange: exchange,
		})
		trusted := user == "orders" && exchange == "commands" || user == "operator" && (exchange == "" || exchange == "commands")
		readable := json.Valid(body) && (contentEncoding == "" || strings.EqualFold(contentEncoding, "utf-8"))
		switch {
		case err == nil && (!handled || !trusted || typ != "charge.v1" || !readable):
			t.Fatal("handled what it should not have")
		case err != nil && (handled || !IsPermanent(err)):
			t.Fatalf("neither handled nor permanent: %v", err)
		}
	})
}

// Whatever comes back to a caller is the server's reply, its refusal, or an error
// that says why it is neither.
func FuzzReply(f *testing.F) {
	kind := MessageType{Name: "quote.reply.v1", Owner: "pricing"}
	f.Add("quote.reply.v1", "pricing", false, "application/json", "", []byte(`{"amount":7}`))
	f.Add("quote.reply.v1", "pricing", true, "application/json", "", []byte(`{"code":"no","message":"never","fields":{"a":"b"}}`))
	f.Add("quote.reply.v1", "pricing", true, "application/json", "", []byte(`"no"`))
	f.Add("quote.reply.v1", "stranger", true, "text/plain", "gzip", []byte(nil))
	f.Fuzz(func(t *testing.T, typ, user string, failed bool, contentType, contentEncoding string, body []byte) {
		d := &Delivery{Message: Message{Type: typ, UserID: user, ContentType: contentType, ContentEncoding: contentEncoding, Body: body}}
		if failed {
			d.Headers = map[string]any{HeaderError: "no"}
		}
		type quote struct {
			Amount int `json:"amount"`
		}
		_, err := read[quote](kind, d)
		trusted := typ == kind.Name && user == kind.Owner
		var remote *RemoteError
		switch {
		case errors.Is(err, ErrUntrustedSource) != !trusted:
			t.Fatalf("from %q: %v", user, err)
		case err == nil && (failed || !json.Valid(body)):
			t.Fatal("a reply of what is none")
		case errors.As(err, &remote) && (!failed || !json.Valid(body)):
			t.Fatal("a refusal of what is none")
		case err != nil && trusted && remote == nil && !errors.Is(err, ErrUndecodable):
			t.Fatalf("neither understood nor refused: %v", err)
		}
	})
}

// What is published is what is delivered, in every property.
func FuzzProperties(f *testing.F) {
	f.Add("id", "type", "story", "reply", "app", "user", "application/json", "utf-8", uint8(4), true, int64(1000), int64(1), []byte("body"))
	f.Add("", "", "", "", "", "", "", "", uint8(0), false, int64(0), int64(0), []byte(nil))
	f.Add("\x00", "\xff", " ", "", "", "", "", "", uint8(255), false, int64(-1), int64(-1), []byte("x"))
	f.Fuzz(func(t *testing.T, id, typ, correlation, replyTo, app, user, contentType, contentEncoding string,
		priority uint8, transient bool, expiration, at int64, body []byte,
	) {
		sent := Message{
			ID: id, Type: typ, CorrelationID: correlation, ReplyTo: replyTo, AppID: app, UserID: user, ContentType: contentType,
			ContentEncoding: contentEncoding, Priority: priority, Transient: transient, Expiration: time.Duration(expiration),
			Timestamp: time.Unix(at, 0), Headers: map[string]any{"h": id}, Body: body,
		}
		p := publishing091(&sent)
		got := newDelivery(amqp.Delivery{
			Headers: p.Headers, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode,
			Priority: p.Priority, CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageId,
			Timestamp: p.Timestamp, Type: p.Type, UserId: p.UserId, AppId: p.AppId, Body: p.Body,
		}, "q").Message
		want := sent
		switch { // whole milliseconds, and never 0 for what expires
		case expiration <= 0:
			want.Expiration = 0
		case want.Expiration < time.Millisecond:
			want.Expiration = time.Millisecond
		default:
			want.Expiration = want.Expiration.Truncate(time.Millisecond)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%+v came back as %+v", want, got)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, v := range []string{"4.3.6", "4.3.1", "4.3.0", "4.10.0", "5", "", "4.3.6-rc.1", "x.y.z", "4..3"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, version string) {
		if atLeast(version, minBrokerVersion) && !atLeast(version, "4.3") {
			t.Fatalf("%q is at least %s and not at least 4.3", version, minBrokerVersion)
		}
	})
}

// 4.3.10 is after 4.3.9, and 4.10 after 4.3: versions are numbers, not text.
func TestAtLeast(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"4.3.1": true, "4.3.6": true, "4.3.10": true, "4.10.0": true, "5.0.0": true, "4.3.1+7.gabc": true, "4.4.0-rc.1": true,
		"4.3.0": false, "4.2.9": false, "4.2.10": false, "3.13.7": false, "4.3": false, "4": false, "": false, "x.y.z": false,
	} {
		if atLeast(version, minBrokerVersion) != want {
			t.Errorf("%q is at least %s: want %t", version, minBrokerVersion, want)
		}
	}
}
