package messaging

import (
	"context"
	"time"
)

// Observer is called for events on a [Conn]: for metrics, traces and logs. It implements one
// or more of the interfaces below. There is one for each kind of event, with one method that
// gets one struct, so new kinds and new fields do not break existing observers. [Connect]
// refuses an observer that implements none of them, or that has one of the methods with
// another signature, which would never be called.
//
// [Config.Observers] may have any number of observers. They are called in that order. A call
// must return at once and never block: a message or a connection waits for it. A panic is
// logged and has no other effect. Calls may come from many goroutines at the same time.
type Observer any

// ConnectObserver is called after each attempt to connect to a node.
type ConnectObserver interface{ OnConnect(e ConnectEvent) }

// ConnectEvent is an attempt to connect that has ended.
type ConnectEvent struct {
	// Connection says what the connection is for: "publish", "consume QUEUE", "read QUEUE",
	// "publish to exchange EXCHANGE".
	Connection string
	// Node is the host and the port.
	Node string
	// BrokerVersion is empty when the attempt has failed.
	BrokerVersion string
	// Err is why the attempt has failed, or nil.
	Err error
	// Took is how long the attempt took.
	Took time.Duration
}

// DisconnectObserver is called when a connection has ended.
type DisconnectObserver interface{ OnDisconnect(e DisconnectEvent) }

// DisconnectEvent is the end of a connection. Unless this process has closed it, an attempt
// to connect again follows.
type DisconnectEvent struct {
	Connection string // as in [ConnectEvent]
	// Err is why it ended: [ErrClosed] when this process has closed it.
	Err error
	// Lasted is how long it was connected.
	Lasted time.Duration
}

// BlockObserver is called when the broker blocks a connection, because it is short of memory
// or disk, and when it unblocks it.
type BlockObserver interface{ OnBlock(e BlockEvent) }

// BlockEvent is the beginning or the end of a block. When a blocked connection is lost, the
// end of the block is reported before the loss.
type BlockEvent struct {
	Connection string // as in [ConnectEvent]
	Blocked    bool
	// Reason is the broker's text, if Blocked is true.
	Reason string
}

// SubscribeObserver is called for each subscription of a consumer or a reader of a stream.
type SubscribeObserver interface{ OnSubscribe(e SubscribeEvent) }

// SubscribeEvent is a subscription that has begun (basic.consume).
type SubscribeEvent struct {
	// Queue is the name of the queue, also when the broker has chosen it.
	Queue       string
	ConsumerTag string // empty for a stream
}

// CancelObserver is called at the end of each subscription for which a [SubscribeObserver]
// was called.
type CancelObserver interface{ OnCancel(e CancelEvent) }

// CancelEvent is a subscription that has ended: no delivery of it is handled any more.
type CancelEvent struct {
	Queue       string
	ConsumerTag string // empty for a stream
	// Err is why it ended. It is nil when the consumer itself has ended it: because it
	// stops, lets another consumer take over (see [Tenure]), or pauses (see [Unavailable]).
	Err error
}

// PublishObserver is called before a message or a request is sent, with the context of the
// call that sends it. The function that it returns, if it is not nil, is called with the
// outcome.
type PublishObserver interface {
	OnPublish(ctx context.Context, e PublishEvent) (done func(e ConfirmEvent))
}

// PublishEvent is a message that is about to be sent.
type PublishEvent struct {
	Route Route
	// Message is the message. An observer may add Headers, which are a copy, and must not
	// change anything else.
	Message *Message
	// Call says that the message is the request of a [Call].
	Call bool
}

// ConfirmObserver is called with the outcome of each publish and each call.
type ConfirmObserver interface{ OnConfirm(e ConfirmEvent) }

// ConfirmEvent is the outcome of a publish or of a call.
type ConfirmEvent struct {
	Route     Route
	MessageID string
	Type      string
	// Call says that it was a request. Every answer, also one that is an error, is a success
	// here.
	Call bool
	// Err is the error of [Publisher.Publish] or [Call]. It is nil when the broker has
	// confirmed the message or, with a publisher [WithoutConfirms], when it is on its way.
	// For a returned message it is a *[ReturnedError].
	Err error
	// Took is the time from the call of Publish to the outcome.
	Took time.Duration
}

// DeliverObserver is called for each delivery, before its handler. Exactly one [SettleEvent]
// follows for it; in between the delivery is in flight.
type DeliverObserver interface{ OnDeliver(e DeliverEvent) }

// DeliverEvent is a delivery that a consumer begins to handle.
type DeliverEvent struct {
	// Delivery belongs to the handler: only read it, and keep no part of it.
	Delivery *Delivery
}

// SettleObserver is called with the verdict on each delivery.
type SettleObserver interface{ OnSettle(e SettleEvent) }

// SettleEvent is a delivery that has its verdict.
type SettleEvent struct {
	Delivery *Delivery
	Verdict  Verdict
	// Err has the text of the error that the handler has returned, at most 1 KiB of it. It
	// does not wrap that error, but [IsPermanent] works on it. Nil when there was none.
	Err error
	// Took is the time from the delivery to the verdict, with tries in place and pauses.
	Took time.Duration
}

// AwayObserver is called when a consumer begins to pause because its handlers return
// [Unavailable], and when it goes on. The calls for one consumer come one after the other.
type AwayObserver interface{ OnAway(e AwayEvent) }

// AwayEvent says what the handlers need and do not have, see [Unavailable].
type AwayEvent struct {
	Queue string
	// Err says what is away. It is nil when it is back or the consumer stops.
	Err error
}

// OverdueObserver is called when a handler has not returned one second after its deadline,
// see [HandlerTimeout]: it ignores its context. It is called once for each delivery.
type OverdueObserver interface{ OnOverdue(e OverdueEvent) }

// OverdueEvent is a handler that should have returned. It is not stopped, and its message is
// not settled until it returns.
type OverdueEvent struct {
	Queue         string
	MessageID     string
	Type          string
	CorrelationID string
	Attempt       int
	// Timeout is the time that the handler had. Running is the time since it was called.
	Timeout, Running time.Duration
}
