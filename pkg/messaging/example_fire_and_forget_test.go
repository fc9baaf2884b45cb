package messaging_test

import (
	"fmt"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Fire and forget: no confirm, not persistent, and gone when nobody has taken it
// in time. Right for what is worth nothing a moment later, such as a heartbeat.
func Example_fireAndForget() {
	beats := messaging.Queue{Name: "beats", Type: messaging.Classic, MaxLength: 100, Overflow: messaging.DropHead}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{beats}})
	defer done()

	publisher := must(conn.Publisher(messaging.WithoutConfirms()))
	beat := newNote("still alive")
	beat.Transient = true
	beat.Expiration = 50 * time.Millisecond
	check(publisher.Publish(ctx, messaging.Route{Key: beats.Name}, beat))       // written, and perhaps arrived
	check(publisher.Publish(ctx, messaging.Route{Key: "nobody is here"}, beat)) // dropped, and no error

	waitUntilEmpty := func() {
		for must(conn.QueueState(ctx, beats.Name)).Messages > 0 {
			<-time.After(10 * time.Millisecond)
		}
	}
	waitUntilEmpty()
	fmt.Println("nobody looked, and it is gone")
	// Output: nobody looked, and it is gone
}
