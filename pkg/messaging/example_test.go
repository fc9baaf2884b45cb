package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A whole program, for a user without rights to manage the broker: it declares a work queue
// and its dead-letter queue, publishes, and consumes with three attempts.
func Example() {
	ctx := context.Background()
	conn, err := messaging.Connect(ctx, messaging.Config{URLs: []string{messagingtest.ExampleURL()}})
	check(err)
	defer func() { check(conn.Close(ctx)) }()
	jobs, topology := messaging.WorkQueue("jobs", messaging.Retry{Limit: 2, MinDelay: 100 * time.Millisecond, MaxDelay: time.Second})
	check(conn.Declare(ctx, topology))
	_, err1 := conn.Consume(jobs, messaging.JSON(func(_ context.Context, d *messaging.Delivery, job string) error {
		fmt.Println("attempt", d.Attempt, "to", job)
		return errors.New("there is no broom")
	}))
	parked := make(chan any, 1)
	_, err2 := conn.Consume(topology.Queues[0], messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		parked <- d.Headers[messaging.HeaderDeadReason]
		return nil
	}))
	m, err3 := messaging.NewMessage(messaging.MessageType{Name: "job.v1"}, "sweep the floor")
	publisher, err4 := conn.Publisher()
	check(errors.Join(err1, err2, err3, err4))
	check(publisher.Publish(ctx, messaging.Route{Key: jobs.Name}, m))
	fmt.Println("parked:", <-parked)
	// Output:
	// attempt 1 to sweep the floor
	// attempt 2 to sweep the floor
	// attempt 3 to sweep the floor
	// parked: there is no broom
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
