package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

type quoteRequest struct {
	SKU string `json:"sku"`
}

type quoteReply struct {
	Cents int `json:"cents"`
}

// RPC over direct reply-to: the answer comes directly to the caller's channel, without a
// queue. The deadline of the context is sent with the request, which expires in its queue at
// that time.
func Example_rpc() {
	calls := messaging.Queue{Name: "quotes", Type: messaging.Classic, MaxLength: 1000}
	quote := messaging.Procedure[quoteRequest, quoteReply]{
		Route:   messaging.Route{Exchange: "pricing", Key: "quote"},
		Request: messaging.MessageType{Name: "quote.v1", Exchange: "pricing", Owner: owner},
		Reply:   messaging.MessageType{Name: "quote.reply.v1", Owner: owner},
	}
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "pricing", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{calls},
		Bindings:  []messaging.Binding{{Source: "pricing", Destination: calls.Name, Key: "quote"}},
	})
	defer done()

	mux := messaging.NewMux("")
	publisher := must(conn.Publisher())
	mux.Handle(quote.Request, messaging.Serve(publisher, quote,
		func(_ context.Context, _ *messaging.Delivery, request quoteRequest) (quoteReply, error) {
			if request.SKU != "mug" {
				return quoteReply{}, &messaging.RemoteError{Code: "unknown_sku", Message: "not sold here"}
			}
			return quoteReply{Cents: 1290}, nil
		}))
	must(conn.Consume(calls, mux.Handler(), messaging.Concurrency(4)))

	caller := conn.Caller()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reply := must(messaging.Call(ctx, caller, quote, quoteRequest{SKU: "mug"}))
	fmt.Println("a mug:", reply.Cents)

	_, err := messaging.Call(ctx, caller, quote, quoteRequest{SKU: "unicorn"})
	var remote *messaging.RemoteError
	fmt.Println("a unicorn:", errors.As(err, &remote), remote.Code)
	// Output:
	// a mug: 1290
	// a unicorn: true unknown_sku
}
