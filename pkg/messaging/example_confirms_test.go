package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Publisher confirms, three ways: wait for each message, send many and wait for
// all, or send on and collect the outcomes later. The broker confirms when every
// queue has the message; for a quorum queue, when a majority has it on disk.
func Example_publisherConfirms() {
	ledger := messaging.Queue{Name: "ledger", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{ledger}})
	defer done()
	publisher := must(conn.Publisher())
	route := messaging.Route{Key: ledger.Name}

	// One by one: simple, and as slow as the round trip.
	check(publisher.Publish(ctx, route, newNote("one")))

	// A batch: one round trip for all, an error for those that failed.
	check(publisher.PublishBatch(ctx, route, []messaging.Message{newNote("two"), newNote("three")}))

	// Asynchronously: never waits for the broker, as long as the window has room.
	var confirmations []*messaging.Confirmation
	for range 97 {
		confirmations = append(confirmations, publisher.PublishAsync(ctx, route, newNote("more")))
	}
	for _, c := range confirmations {
		check(c.Wait(ctx))
	}
	fmt.Println(must(conn.QueueState(ctx, ledger.Name)).Messages, "messages")
	// Output: 100 messages
}
