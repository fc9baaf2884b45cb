package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Point to point: one producer, one queue, one consumer. The default exchange
// routes to the queue that the key names, without a binding. The user needs the right to
// write to amq.default, with which it can publish to every queue. So in a system of several
// services an exchange of your own is better.
func Example_pointToPoint() {
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{jobs}})
	defer done()

	publisher := must(conn.Publisher())
	check(publisher.Publish(ctx, messaging.Route{Key: "jobs"}, newNote("one")))
	check(publisher.Publish(ctx, messaging.Route{Key: "jobs"}, newNote("two")))

	fmt.Println(receive(ctx, conn, jobs, 2))
	// Output: [one two]
}
