package messaging

import (
	"context"
	"time"
)

// Observer is told what happens on a [Conn]: for metrics, traces and logs. It implements
// one or more of the interfaces below, one for each kind of event; each has one method,
// which gets one struct. New kinds and new fields break nothing. [Connect] refuses an
// observer that implements none of them, or has one of their methods with another
// signature, and so would not be told.
//
// [Config.Observers] may have any number of them. They are called in their order. A call
// must return at once and never block: it stands on the path of a message, or of a
// connection. A panic is logged and changes nothing else. Calls may come at the same time
// from many goroutines.
type Observer any

// ConnectObserver is told of each attempt to connect to a node.
type ConnectObserver interface{ OnConnect(e ConnectEvent) }

// ConnectEvent is an attempt to connect that has ended.
type ConnectEvent struct {
	// Connection says what it is for: "publish", "consume QUEUE", "read QUEUE",
	// "publish to exchange EXCHANGE".
	Connection string
	// Node is the host and the port.
	Node string
	// BrokerVersion is known when it is connected.
	BrokerVersion string
	// Err is why it is not connected, and nil when it is.
	Err error
	// Took is how long the attempt has lasted.
	Took time.Duration
}

// DisconnectObserver is told of the end of each connection that was there.
type DisconnectObserver interface{ OnDisconnect(e DisconnectEvent) }

// DisconnectEvent is the end of a connection. Unless its owner has closed it, another
// attempt follows.
type DisconnectEvent struct {
	Connection string // as in [ConnectEvent]
	// Err is why, and [ErrClosed] when this process has closed it.
	Err error
	// Lasted is for how long it was connected.
	Lasted time.Duration
}

// BlockObserver is told when the broker blocks a connection, because it is short of
// memory or disk, and when it does so no longer.
type BlockObserver interface{ OnBlock(e BlockEvent) }

// BlockEvent is the begin or the end of a block. A connection that is lost is no longer
// blocked, and that is told before the loss.
type BlockEvent struct {
	Connection string // as in [ConnectEvent]
	Blocked    bool
	// Reason is the broker's, where Blocked is true.
	Reason string
}

// SubscribeObserver is told of each subscription, also of readers of streams.
type SubscribeObserver interface{ OnSubscribe(e SubscribeEvent) }

// SubscribeEvent is a subscription that has begun (basic.consume).
type SubscribeEvent struct {
	// Queue has the name that the broker has given, where it did.
	Queue       string
	ConsumerTag string // empty for a stream
}

// CancelObserver is told of the end of each subscription that a [SubscribeObserver] was
// told of.
type CancelObserver interface{ OnCancel(e CancelEvent) }

// CancelEvent is a subscription that has ended: no delivery of it is handled any more.
type CancelEvent struct {
	Queue       string
	ConsumerTag string // empty for a stream
	// Err is why. It is nil when the consumer has ended it in good order: it stops, lets
	// another consumer have its turn (see [Tenure]), or pauses (see [Unavailable]).
	Err error
}

// PublishObserver is told of a message or a call before it is sent, with the context of
// whoever sends it. What it returns, which may be nil, is called with the outcome.
type PublishObserver interface {
	OnPublish(ctx context.Context, e PublishEvent) (done func(e ConfirmEvent))
}

// PublishEvent is a message that is about to be sent.
type PublishEvent struct {
	Route Route
	// Message is what is sent. An observer may add to its Headers, which are a copy, and
	// leaves all else as it is.
	Message *Message
	// Call says that it is a request, see [Call].
	Call bool
}

// ConfirmObserver is told the outcome of each publish and each call.
type ConfirmObserver interface{ OnConfirm(e ConfirmEvent) }

// ConfirmEvent is the outcome of a publish or of a call.
type ConfirmEvent struct {
	Route     Route
	MessageID string
	Type      string
	// Call says that it was a request. Its outcome is the answer, whatever that says.
	Call bool
	// Err is what [Publisher.Publish] or [Call] gives; nil when the broker has confirmed
	// the message, or, of a publisher [WithoutConfirms], when it is on its way. A message
	// that came back is a *[ReturnedError].
	Err error
	// Took is from the call of Publish to the outcome.
	Took time.Duration
}

// DeliverObserver is told of each delivery, before its handler is called. Between that
// and its [SettleEvent], of which there is exactly one, it is in flight.
type DeliverObserver interface{ OnDeliver(e DeliverEvent) }

// DeliverEvent is a delivery that a consumer begins to handle.
type DeliverEvent struct {
	// Delivery is the handler's: read it and keep nothing of it.
	Delivery *Delivery
}

// SettleObserver is told what became of each delivery.
type SettleObserver interface{ OnSettle(e SettleEvent) }

// SettleEvent is a delivery that has its verdict.
type SettleEvent struct {
	Delivery *Delivery
	Verdict  Verdict
	// Err has the text of the error that the handler has returned, at most 1 KiB of it,
	// and nothing else of it but that it [IsPermanent]. Nil for none.
	Err error
	// Took is from the delivery to the verdict, tries in place and pauses included.
	Took time.Duration
}

// AwayObserver is told when a consumer finds that what its handlers need is away, and
// when it is back. The calls of one consumer come one after the other.
type AwayObserver interface{ OnAway(e AwayEvent) }

// AwayEvent says what is away, see [Unavailable].
type AwayEvent struct {
	Queue string
	// Err is what is away, and nil when it is back or the consumer stops.
	Err error
}

// OverdueObserver is told of a handler that has not returned although its deadline has
// passed, see [HandlerTimeout]: it ignores its context. Once for each delivery.
type OverdueObserver interface{ OnOverdue(e OverdueEvent) }

// OverdueEvent is a handler that should have returned. It goes on, and nothing is settled
// until it returns.
type OverdueEvent struct {
	Queue         string
	MessageID     string
	Type          string
	CorrelationID string
	Attempt       int
	// Timeout is what the handler had, and Running is since when it was called.
	Timeout, Running time.Duration
}
