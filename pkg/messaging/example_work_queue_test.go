package messaging_test

import (
	"context"
	"fmt"
	"sync"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Work queue: several consumers share the messages of one durable queue, and each message is
// handled by one of them. The prefetch is small, so that a slow consumer does not hold
// messages that another one could handle.
func Example_workQueue() {
	tasks := messaging.Queue{Name: "tasks", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{tasks}})
	defer done()

	var mu sync.Mutex
	handled := map[string]int{}
	var all sync.WaitGroup
	all.Add(20)
	worker := messaging.JSON(func(_ context.Context, _ *messaging.Delivery, task string) error {
		mu.Lock()
		defer mu.Unlock()
		handled[task]++
		all.Done()
		return nil // acknowledged
	})
	must(conn.Consume(tasks, worker, messaging.Concurrency(2)))
	must(conn.Consume(tasks, worker, messaging.Concurrency(2)))

	publisher := must(conn.Publisher())
	for i := range 20 {
		check(publisher.Publish(ctx, messaging.Route{Key: tasks.Name}, newNote(fmt.Sprint("task ", i))))
	}
	all.Wait()
	fmt.Println(len(handled), "tasks, each handled", handled["task 7"], "time")
	// Output: 20 tasks, each handled 1 time
}
