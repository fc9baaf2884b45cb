package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Dead letters with delayed retry: a failed message comes back after a delay that
// grows, three times in all; then it is parked in the dead-letter queue, with the
// reason in its headers.
func Example_deadLetterQueue() {
	charges := messaging.Queue{
		Name:       "charges",
		Type:       messaging.Quorum,
		Retry:      messaging.Retry{Limit: 2, MinDelay: 100 * time.Millisecond, MaxDelay: time.Second}, // three attempts
		Overflow:   messaging.RejectPublish,                                                            // at-least-once dead-lettering needs it
		DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "charges"},
	}
	dead := messaging.Queue{Name: "charges.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{dead, charges},
		Bindings:  []messaging.Binding{{Source: "dead", Destination: dead.Name, Key: "charges"}},
	})
	defer done()

	must(conn.Consume(charges, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		fmt.Println("attempt", d.Attempt)
		return errors.New("the provider is away")
	})))
	publisher := must(conn.Publisher())
	check(publisher.Publish(ctx, messaging.Route{Key: charges.Name}, newNote("charge ada")))

	parked := make(chan *messaging.Delivery, 1)
	must(conn.Consume(dead, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		parked <- d
		return nil
	})))
	d := <-parked
	fmt.Println("parked:", d.Headers[messaging.HeaderDeadReason])
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// parked: the provider is away
}
