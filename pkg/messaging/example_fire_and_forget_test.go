package messaging_test

import (
	"fmt"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Fire and forget: no confirm, not persistent, and dropped when it was not consumed in time.
// This is for messages that are soon out of date, such as a heartbeat.
func Example_fireAndForget() {
	beats := messaging.Queue{Name: "beats", Type: messaging.Classic, MaxLength: 100, Overflow: messaging.DropHead}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{beats}})
	defer done()

	publisher := must(conn.Publisher(messaging.WithoutConfirms()))
	beat := newNote("still alive")
	beat.Transient = true
	beat.Expiration = 50 * time.Millisecond
	check(publisher.Publish(ctx, messaging.Route{Key: beats.Name}, beat))       // sent, and may be lost
	check(publisher.Publish(ctx, messaging.Route{Key: "nobody is here"}, beat)) // dropped without an error

	waitUntilEmpty := func() {
		for must(conn.QueueState(ctx, beats.Name)).Messages > 0 {
			<-time.After(10 * time.Millisecond)
		}
	}
	waitUntilEmpty()
	fmt.Println("nobody looked, and it is gone")
	// Output: nobody looked, and it is gone
}
