package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Headers: a headers exchange routes by headers and not by the key. With x-match=all the
// message must have all arguments of the binding as headers, with x-match=any one of them.
func Example_headers() {
	email := messaging.Queue{Name: "email", Type: messaging.Quorum}
	pager := messaging.Queue{Name: "pager", Type: messaging.Quorum}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "notify", Kind: messaging.Headers}},
		Queues:    []messaging.Queue{email, pager},
		Bindings: []messaging.Binding{
			{Source: "notify", Destination: email.Name, Match: map[string]any{"x-match": "all", "channel": "email", "urgency": "normal"}},
			{Source: "notify", Destination: pager.Name, Match: map[string]any{"x-match": "any", "channel": "pager", "urgency": "high"}},
		},
	})
	defer done()

	publisher := must(conn.Publisher())
	send := func(text, channel, urgency string) {
		m := newNote(text)
		m.Headers = map[string]any{"channel": channel, "urgency": urgency}
		check(publisher.Publish(ctx, messaging.Route{Exchange: "notify"}, m))
	}
	send("outage", "email", "high")    // email needs both headers
	send("on call", "pager", "normal") // the pager needs one of them
	send("receipt", "email", "normal")

	fmt.Println("email:", receive(ctx, conn, email, 1))
	fmt.Println("pager:", receive(ctx, conn, pager, 2))
	// Output:
	// email: [receipt]
	// pager: [outage on call]
}
