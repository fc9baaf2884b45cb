package messaging_test

import (
	"errors"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Unroutable messages: the broker also confirms a message that no queue gets. This package
// publishes with the mandatory flag, so such a message comes back as an error. An exchange
// with an alternate exchange routes it there instead.
func Example_unroutable() {
	unrouted := messaging.Queue{Name: "unrouted", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: "commands", Kind: messaging.Direct},
			{Name: "events", Kind: messaging.Topic, Alternate: "unrouted"},
			{Name: "unrouted", Kind: messaging.Fanout},
		},
		Queues:   []messaging.Queue{unrouted},
		Bindings: []messaging.Binding{{Source: "unrouted", Destination: unrouted.Name}},
	})
	defer done()
	publisher := must(conn.Publisher())

	err := publisher.Publish(ctx, messaging.Route{Exchange: "commands", Key: "charge"}, newNote("charge ada"))
	var returned *messaging.ReturnedError
	fmt.Println("command:", errors.Is(err, messaging.ErrUnroutable), errors.As(err, &returned), returned.Text)

	err = publisher.Publish(ctx, messaging.Route{Exchange: "commands", Key: "charge"}, newNote("charge ada"), messaging.AllowUnroutable())
	fmt.Println("command, allowed:", err)

	err = publisher.Publish(ctx, messaging.Route{Exchange: "events", Key: "order.placed"}, newNote("placed"))
	fmt.Println("event:", err, receive(ctx, conn, unrouted, 1))
	// Output:
	// command: true true NO_ROUTE
	// command, allowed: <nil>
	// event: <nil> [placed]
}
