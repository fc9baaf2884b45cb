package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Topics: a topic exchange matches routing keys by pattern. "*" stands for one
// word, "#" for any number of words. A queue gets a message once, even if several of its
// bindings match.
func Example_topics() {
	europe := messaging.Queue{Name: "europe", Type: messaging.Quorum}
	express := messaging.Queue{Name: "express", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "orders", Kind: messaging.Topic}},
		Queues:    []messaging.Queue{europe, express},
		Bindings: []messaging.Binding{
			{Source: "orders", Destination: europe.Name, Key: "order.*.eu.#"},
			{Source: "orders", Destination: europe.Name, Key: "order.paid.#"},
			{Source: "orders", Destination: express.Name, Key: "order.*.*.express"},
		},
	})
	defer done()

	publisher := must(conn.Publisher())
	for _, key := range []string{"order.placed.eu.standard", "order.placed.us.express", "order.paid.eu.express"} {
		check(publisher.Publish(ctx, messaging.Route{Exchange: "orders", Key: key}, newNote(key)))
	}
	fmt.Println("europe: ", receive(ctx, conn, europe, 2))
	fmt.Println("express:", receive(ctx, conn, express, 2))
	// Output:
	// europe:  [order.placed.eu.standard order.paid.eu.express]
	// express: [order.placed.us.express order.paid.eu.express]
}
