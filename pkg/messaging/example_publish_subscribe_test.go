package messaging_test

import (
	"context"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Publish and subscribe: a fanout exchange copies each message to every queue
// that is bound. Each subscriber has an exclusive queue, which the broker names and which is
// deleted with its connection.
func Example_publishSubscribe() {
	news := messaging.Exchange{Name: "news", Kind: messaging.Fanout}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Exchanges: []messaging.Exchange{news}})
	defer done()

	listener := messaging.Queue{Type: messaging.Classic, Exclusive: true, MaxLength: 100, Overflow: messaging.DropHead}
	subscribe := func() (heard chan string) {
		heard = make(chan string, 1)
		subscribed := make(chan struct{}, 1)
		must(conn.Listen(listener, []messaging.Binding{{Source: news.Name}},
			messaging.JSON(func(_ context.Context, _ *messaging.Delivery, text string) error {
				heard <- text
				return nil
			}),
			messaging.OnSubscribe(func() { subscribed <- struct{}{} })))
		<-subscribed
		return heard
	}
	ann, ben := subscribe(), subscribe()

	publisher := must(conn.Publisher())
	check(publisher.Publish(ctx, messaging.Route{Exchange: news.Name}, newNote("the shop is open")))
	fmt.Println("ann:", <-ann)
	fmt.Println("ben:", <-ben)
	// Output:
	// ann: the shop is open
	// ben: the shop is open
}
