package messaging_test

import (
	"context"
	"fmt"
	"strings"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Other programs often send plain text without a type. BytesCodec encodes and decodes it; here
// at both ends of a call.
func Example_plainText() {
	queue := messaging.Queue{Name: "shout", Type: messaging.Classic}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{queue}})
	defer done()
	plain := messaging.BytesCodec{ContentType: "text/plain"}
	shout := messaging.Procedure[string, string]{
		Route:   messaging.Route{Key: queue.Name},
		Request: messaging.MessageType{Codec: plain},
		Reply:   messaging.MessageType{Codec: plain, Owner: "admin"}, // the user that the server connects as
	}

	publisher := must(conn.Publisher())
	must(conn.Consume(queue, messaging.Serve(publisher, shout,
		func(_ context.Context, d *messaging.Delivery, text string) (string, error) {
			return strings.ToUpper(text), nil
		})))
	answer, err := messaging.Call(ctx, conn.Caller(), shout, "hello")
	check(err)
	fmt.Println(answer)
	// Output: HELLO
}
