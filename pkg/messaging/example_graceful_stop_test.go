package messaging_test

import (
	"context"
	"fmt"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Graceful stop: Drain takes no more messages, waits for the running handlers and gives back
// the rest. That does not count as an attempt. To close the connection at once would count
// as one.
func Example_gracefulStop() {
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{jobs}})
	defer done()
	publisher := must(conn.Publisher())
	for i := range 5 {
		check(publisher.Publish(ctx, messaging.Route{Key: jobs.Name}, newNote(fmt.Sprint("job ", i))))
	}

	started, finish := make(chan struct{}), make(chan struct{})
	consumer := must(conn.Consume(jobs, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		close(started) // only one handler will run
		<-finish
		return nil
	}), messaging.Prefetch(5)))
	<-started

	drained := make(chan error)
	go func() { drained <- consumer.Drain(ctx) }()
	for consumer.Ready() == nil { // until it takes no more
		<-time.After(time.Millisecond)
	}
	close(finish)
	check(<-drained)
	fmt.Println("given back:", receive(ctx, conn, jobs, 4))
	// Output: given back: [job 1 job 2 job 3 job 4]
}
