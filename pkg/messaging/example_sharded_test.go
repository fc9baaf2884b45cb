package messaging_test

import (
	"context"
	"fmt"
	"sync"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Sharded: x-modulus-hash spreads keys over queues; messages with the same key go to the same
// queue. Each queue has a single active consumer. So the events of one key are handled in
// order, while different keys are handled in parallel, with any number of replicas.
func Example_sharded() {
	topology := messaging.Sharded(messaging.Exchange{Name: "payments"}, 4, messaging.Queue{Type: messaging.Quorum})
	ctx, conn, done := messagingtest.ForExample(topology)
	defer done()

	var mu sync.Mutex
	seen := map[string][]string{}   // by key
	shards := map[string]struct{}{} // that were used
	var all sync.WaitGroup
	all.Add(20 * 3)
	handler := messaging.JSON(func(_ context.Context, d *messaging.Delivery, event string) error {
		mu.Lock()
		defer mu.Unlock()
		seen[d.Key] = append(seen[d.Key], event)
		shards[d.Queue] = struct{}{}
		all.Done()
		return nil
	})
	for range 2 { // two replicas, each on all shards
		must(conn.ConsumeAll(topology.Queues, handler))
	}

	publisher := must(conn.Publisher())
	for _, event := range []string{"authorised", "captured", "refunded"} {
		for order := range 20 {
			check(publisher.Publish(ctx, messaging.Route{Exchange: "payments", Key: fmt.Sprint("order-", order)}, newNote(event)))
		}
	}
	all.Wait()
	fmt.Println("order-7:", seen["order-7"])
	fmt.Println("more than one shard:", len(shards) > 1)
	// Output:
	// order-7: [authorised captured refunded]
	// more than one shard: true
}
