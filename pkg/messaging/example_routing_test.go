package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Routing: a direct exchange routes a message to the bindings whose key equals its routing
// key. A queue may be bound with several keys.
func Example_routing() {
	urgent := messaging.Queue{Name: "log.urgent", Type: messaging.Quorum}
	all := messaging.Queue{Name: "log.all", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "log", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{urgent, all},
		Bindings: []messaging.Binding{
			{Source: "log", Destination: urgent.Name, Key: "error"},
			{Source: "log", Destination: all.Name, Key: "error"},
			{Source: "log", Destination: all.Name, Key: "info"},
		},
	})
	defer done()

	publisher := must(conn.Publisher())
	check(publisher.Publish(ctx, messaging.Route{Exchange: "log", Key: "info"}, newNote("started")))
	check(publisher.Publish(ctx, messaging.Route{Exchange: "log", Key: "error"}, newNote("disk full")))

	fmt.Println("urgent:", receive(ctx, conn, urgent, 1))
	fmt.Println("all:   ", receive(ctx, conn, all, 2))
	// Output:
	// urgent: [disk full]
	// all:    [started disk full]
}
