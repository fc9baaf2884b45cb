package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Publisher confirms, in three ways: wait for each message, send a batch and wait for all, or
// go on sending and collect the outcomes later. The broker confirms a message when every
// queue has it; for a quorum queue, when a majority has it on disk.
func Example_publisherConfirms() {
	ledger := messaging.Queue{Name: "ledger", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{ledger}})
	defer done()
	publisher := must(conn.Publisher())
	route := messaging.Route{Key: ledger.Name}

	// One by one: simple, but each message takes a round trip.
	check(publisher.Publish(ctx, route, newNote("one")))

	// A batch: one round trip for all, an error for those that failed.
	check(publisher.PublishBatch(ctx, route, []messaging.Message{newNote("two"), newNote("three")}))

	// Asynchronously: does not wait for the broker while the window has room.
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
