package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Priorities: a quorum queue always has 0 to 31, a classic queue those that it was declared
// with. They order only the messages that wait in the queue, not those that a consumer has
// prefetched.
func Example_priority() {
	quorum := messaging.Queue{Name: "quorum", Type: messaging.Quorum}
	classic := messaging.Queue{Name: "classic", Type: messaging.Classic, MaxPriority: 10}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{quorum, classic}})
	defer done()

	publisher := must(conn.Publisher())
	for _, queue := range []messaging.Queue{quorum, classic} {
		for _, priority := range []uint8{1, 4, 8, 4} {
			m := newNote(fmt.Sprint("p", priority))
			m.Priority = priority
			check(publisher.Publish(ctx, messaging.Route{Key: queue.Name}, m))
		}
		fmt.Println(queue.Name, receive(ctx, conn, queue, 4))
	}
	// Output:
	// quorum [p8 p4 p4 p1]
	// classic [p8 p4 p4 p1]
}
