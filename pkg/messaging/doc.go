// Package messaging is a client for RabbitMQ 4.3 and later. It publishes with confirms,
// consumes with handlers whose error decides what happens to a message, calls over RPC and
// reads streams. It reconnects by itself, and publishing and consuming go on afterwards.
// Services that use it do not need to know AMQP.
//
// # Connecting
//
// [Connect] gives a [Conn], which reconnects until it is closed:
//
//	conn, err := messaging.Connect(ctx, messaging.Config{URLs: []string{"amqp://localhost"}})
//
// [LoadTLS] reads the certificates for amqps URLs from files. [Config.Credentials] is for
// tokens and passwords that change, [Config.ByCertificate] for a login without a password.
// The time from the dial of a connection to its loss is an epoch. Channels, delivery tags
// and confirm numbers of one epoch are never used in the next.
//
//	          dial, with backoff and jitter
//	down ─────────────────────────────────▶ connected ──▶ blocked (resource alarm)
//	 ▲                                         │  ▲            │
//	 │   lost: open confirms and calls fail    │  └────────────┘
//	 │   with ErrConnectionLost; what was      │
//	 └── delivered is not acknowledged ◀───────┘
//
// # Publishing
//
// A [Publisher] waits for the broker's confirm. A message that no queue takes comes back
// as an error:
//
//	publisher, err := conn.Publisher()
//	m, err := messaging.NewMessage(kind, body)
//	err = publisher.Publish(ctx, messaging.Route{Exchange: "orders.events", Key: "order.placed.eu.express"}, m)
//
// nil means that every queue that the message was routed to has it. [ErrConnectionLost]
// means that the outcome is unknown: publish the same message again, consumers recognise
// its id. [ErrRefused] without ErrConnectionLost means that the broker does not accept this
// message.
//
// Each exchange has a channel of its own, and on the default exchange each queue. When the
// broker closes a channel because of one message, the other channels go on.
// Package outbox publishes messages that belong to a database transaction.
//
// # Consuming
//
// The error that a [Handler] returns decides what happens to the message. A handler never
// calls ack or nack:
//
//	mux := messaging.NewMux("operator")
//	mux.Handle(charge, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, c Charge) error { ... }))
//	consumer, err := conn.Consume(queue, mux.Handler(), messaging.Concurrency(4))
//
// An error counts as a failed attempt. The [Retry] of the queue says how often and after
// which delay the message is delivered again. With [Permanent], or an error on the last
// attempt, the message is parked: published to the dead-letter queue with the reason in its
// headers. [Unavailable], [GiveBack] and [RetryInPlace] do not count as attempts. The full
// table is at [Handler].
//
// Bodies are JSON. [Typed] and [MessageType] take another [Codec]: [BytesCodec] is for
// programs that send plain text, and for handlers that decode bodies themselves.
//
// Every message may be delivered more than once. With package inbox its effect happens once.
//
// Where order matters, [Sharded] spreads messages over queues by their key, and
// [Conn.ConsumeAll] handles the messages of one key one after the other.
//
// # Calling
//
// [Call] and [Serve] are the client and the server of a [Procedure]. They use direct
// reply-to; the request carries the caller's deadline.
//
//	mux.Handle(quote.Request, messaging.Serve(publisher, quote, func(ctx context.Context, d *messaging.Delivery, r Request) (Reply, error) { ... }))
//	caller := conn.Caller() // any number of calls at once
//	reply, err := messaging.Call(ctx, caller, quote, Request{...})
//
// # Reading streams
//
// [Conn.Stream] reads a stream from its beginning, its end, an offset or a time. Reading
// removes nothing, so a stream can be read any number of times.
//
//	for d, err := range conn.Stream(ctx, audit, messaging.FirstOffset()) { ... }
//
// # Options
//
// Each call has its own type of options, so that an option of another call does not
// compile: [PublisherOption], [PublishOption], [ConsumeOption], [ListenOption] and
// [StreamOption]. When an option is given twice the last one counts. A nil option is
// ignored. When a value is out of its range the call returns an error.
//
// # Topology
//
// [Topology] describes exchanges, queues, bindings, users and message types as data.
// [WorkQueue] and [Sharded] make the usual descriptions and [Merge] joins those of several
// teams. Entities that others declare are External. There are two ways to bring a topology
// to a broker:
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
// [Conn.Ready] and [Consumer.Ready] say what is missing. [Config.Observers] are called for
// events of connections, subscriptions and messages; an [Observer] implements the methods
// of the events that it wants. Package otelmessaging has an observer for traces and metrics,
// and [Config.Logger] gets the same events as log lines.
//
// When a context ends first, the text of the error says what the call was waiting for: that
// no node answers, for example, that the broker refuses the login or blocks the connection,
// or that it has not confirmed.
//
// # Testing
//
// messagingtest.Handle runs a handler with a message as a consumer would, without a broker,
// and gives the verdict. messagingtest.Broker starts a real broker in a container.
//
// DESIGN.md, in this directory, says what is in which file and what is not obvious.
package messaging
