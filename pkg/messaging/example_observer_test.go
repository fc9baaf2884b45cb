package messaging_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// journal is an observer: it has only the methods for the events that it wants.
type journal struct{ lines chan string }

func (j journal) OnSubscribe(e messaging.SubscribeEvent) {
	j.lines <- "subscribed to " + e.Queue
}

func (j journal) OnConfirm(e messaging.ConfirmEvent) {
	j.lines <- fmt.Sprintln("published", e.Type+",", "error:", e.Err)
}

func (j journal) OnSettle(e messaging.SettleEvent) {
	j.lines <- fmt.Sprintln("attempt", e.Delivery.Attempt, e.Verdict, "error:", e.Err)
}

// Observers: an observer is called for the events of connections, subscriptions and messages
// whose methods it has. Metrics, traces and logs are made this way.
func Example_observers() {
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	j := journal{lines: make(chan string, 100)}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{jobs}}, j)
	defer done()

	publisher := must(conn.Publisher())
	check(publisher.Publish(ctx, messaging.Route{Key: jobs.Name}, newNote("clean up")))
	fmt.Print(<-j.lines)

	must(conn.Consume(jobs, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		if d.Attempt == 1 {
			return errors.New("not now")
		}
		return nil
	})))
	fmt.Println(<-j.lines)
	fmt.Print(<-j.lines)
	fmt.Print(<-j.lines)
	// Output:
	// published note.v1, error: <nil>
	// subscribed to jobs
	// attempt 1 rejected error: not now
	// attempt 2 acked error: <nil>
}
