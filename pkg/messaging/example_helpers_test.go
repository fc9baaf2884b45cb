package messaging_test

import (
	"context"
	"log"

	"example.com/orderflow/pkg/messaging"
)

// The examples share these helpers, so that each shows only its pattern. An error ends the
// process.

var note = messaging.MessageType{Name: "note.v1", Owner: owner}

func newNote(text string) messaging.Message {
	m, err := messaging.NewMessage(note, text)
	if err != nil {
		log.Fatal(err)
	}
	return m
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// receive consumes n messages of a queue and gives their texts, in order.
func receive(ctx context.Context, conn *messaging.Conn, queue messaging.Queue, n int) []string {
	texts := make(chan string, n)
	consumer := must(conn.Consume(queue, messaging.JSON(func(_ context.Context, _ *messaging.Delivery, text string) error {
		texts <- text
		return nil
	})))
	var all []string
	for range n {
		select {
		case text := <-texts:
			all = append(all, text)
		case <-ctx.Done():
			log.Fatal(ctx.Err())
		}
	}
	if err := consumer.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	return all
}
