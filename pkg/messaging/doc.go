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
// [LoadTLS] makes the settings of amqps URLs from files. [Config.Credentials] is for
// tokens and passwords that change, [Config.ByCertificate] for no password at all.
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
//	publisher, err := conn.Publisher()
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
// An error is an attempt: the message is delivered again, as often and after the delay
// that its queue's [Retry] says. [Permanent], or an error on the last attempt, parks it in
// the dead-letter queue with the reason in its headers. [Unavailable], [GiveBack] and
// [RetryInPlace] are no attempts. [Handler] has the whole table.
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
//	mux.Handle(quote.Request, messaging.Serve(publisher, quote, func(ctx context.Context, d *messaging.Delivery, r Request) (Reply, error) { ... }))
//	caller := conn.Caller() // any number of calls at once
//	reply, err := messaging.Call(ctx, caller, quote, Request{...})
//
// # Reading streams
//
// [Conn.Stream] reads a stream from its beginning, its end, an offset or a time, as
// often as one likes: reading takes nothing out.
//
//	for d, err := range conn.Stream(ctx, audit, messaging.FirstOffset()) { ... }
//
// # Options
//
// Each call has options of a type of its own, so that one that means nothing there does
// not compile: [PublisherOption], [PublishOption], [ConsumeOption], [ListenOption] and
// [StreamOption]. The last of two that say different things counts, nil is none, and a
// value that is out of its range is an error of the call.
//
// # Topology
//
// [Topology] is exchanges, queues, bindings, users and message types as data.
// [WorkQueue] and [Sharded] make the usual ones, [Merge] joins those of several teams, and
// what is somebody else's is External. There are two ways to put it on a broker:
//
//	                  Apply                               Conn.Declare
//	speaks            AMQP and the management API         AMQP
//	user              the tag "policymaker"               any, with rights in the virtual host
//	settings are      policies, which can change          arguments, which cannot
//	Verify compares   yes                                 no
//	for               production: services declare        development, brokers without
//	                  nothing                             a management API
//
// [Exchange.Federated] and [ApplyUpstreams] copy an exchange between brokers.
//
// # Watching
//
// [Conn.Ready] and [Consumer.Ready] say what is missing. [Config.Observers] are told of
// connections, subscriptions and messages: an [Observer] implements what it wants to know.
// [Config.Logger] is one of them, package otelmessaging has one for traces and metrics.
//
// An error of a context says in its text why nothing had happened until then: that no node
// answers, that the broker refuses the login or blocks the connection, that it has not
// confirmed.
//
// # Testing
//
// messagingtest.Handle handles a message as a consumer would, without a broker, and says
// what became of it. messagingtest.Broker is a real broker in a container.
//
// DESIGN.md, beside this file, says what is where and what is not obvious.
package messaging
