package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Stream replay: reading removes nothing, so messages can be read again, from the start, from
// a time, or from the last position.
func Example_streamReplay() {
	audit := messaging.Queue{Name: "audit", Type: messaging.Stream}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{audit}})
	defer done()
	publisher := must(conn.Publisher())
	for i := range 5 {
		check(publisher.Publish(ctx, messaging.Route{Key: audit.Name}, newNote(fmt.Sprint("event ", i))))
	}

	read := func(from messaging.Offset, n int) (last int64) {
		for d, err := range conn.Stream(ctx, audit, from) {
			check(err)
			fmt.Println(d.Offset, string(d.Body))
			last = d.Offset
			if n--; n == 0 {
				break
			}
		}
		return last
	}
	last := read(messaging.FirstOffset(), 3)
	fmt.Println("resuming")
	read(messaging.OffsetAt(last+1), 2)
	// Output:
	// 0 "event 0"
	// 1 "event 1"
	// 2 "event 2"
	// resuming
	// 3 "event 3"
	// 4 "event 4"
}
