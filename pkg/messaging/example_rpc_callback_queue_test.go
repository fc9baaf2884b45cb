package messaging_test

import (
	"context"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// RPC with a callback queue, which is the older way. The caller has an exclusive queue, names
// it in reply_to and matches answers by the correlation id. Unlike with direct reply-to,
// answers wait in the queue while the caller is busy.
func Example_rpcCallbackQueue() {
	calls := messaging.Queue{Name: "calls", Type: messaging.Classic}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{calls}})
	defer done()
	publisher := must(conn.Publisher())

	// The server answers to the reply_to of the request.
	must(conn.Consume(calls, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, name string) error {
		answer := newNote("hello " + name)
		answer.CorrelationID = d.CorrelationID
		return publisher.Publish(ctx, messaging.Route{Key: d.ReplyTo}, answer, messaging.AllowUnroutable())
	})))

	// The caller's queue has a name of its own, since requests need it before it is consumed.
	callback := messaging.Queue{Name: "answers-for-me", Type: messaging.Classic, Exclusive: true}
	answers := make(chan *messaging.Delivery, 1)
	subscribed := make(chan struct{}, 1)
	must(conn.Listen(callback, nil, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		answers <- d
		return nil
	}), messaging.OnSubscribe(func() { subscribed <- struct{}{} })))
	<-subscribed

	request := newNote("ada")
	request.ReplyTo = callback.Name
	request.CorrelationID = request.ID
	check(publisher.Publish(ctx, messaging.Route{Key: calls.Name}, request))
	answer := <-answers
	fmt.Println(string(answer.Body), answer.CorrelationID == request.ID)
	// Output: "hello ada" true
}
