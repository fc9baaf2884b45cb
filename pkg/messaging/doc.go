// Package messaging talks to RabbitMQ 4.3 and later, so that services do not have
// to know AMQP. It publishes with confirms, consumes by verdict, calls over RPC,
// reads streams, and keeps all of that going over lost connections.
//
// # Connecting
//
// [Connect] gives a [Conn], which reconnects for ever:
//
//	conn, err := messaging.Connect(ctx, messaging.Config{URLs: []string{"amqp://localhost"}})
//
// [LoadTLS] makes the settings of amqps URLs from files.
// A connection, from its dial to its loss, is an epoch. Nothing of one epoch is
// used in the next: not a channel, not a delivery tag, not a number of a confirm.
//
//	          dial, with backoff and jitter
//	down ─────────────────────────────────▶ connected ──▶ blocked (resource alarm)
//	 ▲                                         │  ▲            │
//	 │   lost: open confirms and calls fail    │  └────────────┘
//	 │   with ErrConnectionLost, what was      │
//	 └── delivered is dropped, never acked ◀───┘
//
// # Publishing
//
// A [Publisher] waits for the broker's confirm, and for the return of a message
// that nothing takes:
//
//	publisher := conn.Publisher()
//	m, err := messaging.NewMessage(kind, body)
//	err = publisher.Publish(ctx, messaging.Route{Exchange: "orders.events", Key: "order.placed.eu.express"}, m)
//
// nil means that every queue it was routed to has it. [ErrConnectionLost] means
// that nobody knows: publish the same message again, consumers recognise its id.
// [ErrRefused] alone means that the broker does not take this message.
//
// Each exchange, and on the default exchange each queue, has a lane of its own: what
// the broker does to a channel over one message happens to no other lane.
// Package outbox does that for messages that belong to a database transaction.
//
// # Consuming
//
// A [Handler] returns an error, and that is the verdict; there is no ack to call:
//
//	mux := messaging.NewMux("operator")
//	mux.Handle(charge, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, c Charge) error { ... }))
//	consumer, err := conn.Consume(queue, mux.Handler(), messaging.Concurrency(4))
//
// An error is an attempt: the broker delivers the message again, after the queue's
// delay. [Permanent], or an error on the last attempt, parks it in the dead-letter
// queue with the reason in its headers. [Unavailable] is no attempt: what the handler
// needs is away, so the consumer pauses. [Handler] has the whole table.
// Bodies are JSON. [Typed] and [MessageType] take another [Codec]: [BytesCodec] is for
// programs that send plain text, and for those that decode bodies themselves.
// Every message may come more than once; package inbox makes its effect once.
// Where order counts, [Sharded] spreads messages over queues by their key, and
// [Conn.ConsumeAll] handles those of one key one after the other.
//
// # Calling
//
// [Call] and [Serve] are two ends of a [Procedure]: direct reply-to, with the
// deadline in the message.
//
//	mux.Handle(quote.Request, messaging.Serve(conn.Publisher(), quote, func(ctx context.Context, d *messaging.Delivery, r Request) (Reply, error) { ... }))
//	caller := conn.Caller() // any number of calls at once
//	reply, err := messaging.Call(ctx, caller, quote, Request{...})
//
// # Reading streams
//
// [Conn.Stream] reads a stream from its beginning, its end, an offset or a time, as
// often as one likes: reading takes nothing out.
//
// # Topology
//
// [Topology] is exchanges, queues, bindings, users and message types as data.
// [Apply] makes a broker have it, [Verify] lists what differs. What can never
// change is a queue argument, everything else a policy. Services declare nothing.
// [Exchange.Federated] and [ApplyUpstreams] copy an exchange between brokers.
//
// # Watching
//
// [Conn.Ready] and [Consumer.Ready] say what is missing. [Hooks] are called for
// every message; package otelmessaging makes traces and metrics of them.
//
// # Testing
//
// messagingtest.Handle handles a message as a consumer would, without a broker, and says
// what became of it. messagingtest.Broker is a real broker in a container.
//
// DESIGN.md, beside this file, says what is where and what is not obvious.
package messaging
