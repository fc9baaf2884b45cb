package messaging_test

import (
	"errors"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The outcome of a batch: its error says which messages failed, and why. All others are
// stored.
func Example_publishBatch() {
	letters := messaging.Queue{Name: "letters", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "mail", Kind: messaging.Headers}},
		Queues:    []messaging.Queue{letters},
		Bindings:  []messaging.Binding{{Source: "mail", Destination: letters.Name, Match: map[string]any{"x-match": "all", "to": "ada"}}},
	})
	defer done()
	publisher := must(conn.Publisher())

	batch := []messaging.Message{newNote("one"), newNote("two"), newNote("three")}
	for i, to := range []string{"ada", "nobody", "ada"} {
		batch[i].Headers = map[string]any{"to": to}
	}
	err := publisher.PublishBatch(ctx, messaging.Route{Exchange: "mail"}, batch)
	var failed *messaging.BatchError
	if errors.As(err, &failed) {
		for _, f := range failed.Failed {
			fmt.Println("failed:", string(batch[f.Index].Body), errors.Is(f.Err, messaging.ErrUnroutable))
		}
	}
	fmt.Println("stored:", receive(ctx, conn, letters, 2))
	// Output:
	// failed: "two" true
	// stored: [one three]
}
