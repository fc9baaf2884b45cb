package messaging_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Batches: a handler takes many messages at once, for example into one database
// transaction. Each message may have an error of its own.
func Example_batch() {
	queue := messaging.Queue{
		Name: "work", Type: messaging.Quorum, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "work"},
	}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{queue, {Name: "work.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}},
		Bindings:  []messaging.Binding{{Source: "dead", Destination: "work.dead", Key: "work"}},
	})
	defer done()

	publisher := must(conn.Publisher())
	for _, word := range []string{"one", "two", "", "four"} {
		check(publisher.Publish(ctx, messaging.Route{Key: "work"}, newNote(word)))
	}
	stored := make(chan string, 1)
	must(conn.ConsumeBatch(queue, 4, messaging.BatchHandlerFunc(func(_ context.Context, batch []*messaging.Delivery) error {
		errs := make(messaging.BatchErrors, len(batch))
		var words []string
		for i, d := range batch {
			if string(d.Body) == `""` {
				errs[i] = messaging.Permanent(fmt.Errorf("nothing to store"))
				continue
			}
			words = append(words, string(d.Body))
		}
		stored <- strings.Join(words, " ") // in one transaction
		return errs
	}), messaging.Linger(10*time.Second))) // or until it has all four
	fmt.Println("stored:", <-stored)
	fmt.Println("parked:", receive(ctx, conn, messaging.Queue{Name: "work.dead", Type: messaging.Quorum}, 1))
	// Output:
	// stored: "one" "two" "four"
	// parked: []
}
