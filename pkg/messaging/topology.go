package messaging

import (
	"slices"
	"time"
)

// ExchangeKind is how an exchange picks the queues and exchanges that get a message.
type ExchangeKind string

// The exchange kinds of RabbitMQ 4.3 that need no plugin.
const (
	// Direct routes to bindings whose key equals the routing key.
	Direct ExchangeKind = "direct"
	// Fanout routes to every binding and ignores the routing key.
	Fanout ExchangeKind = "fanout"
	// Topic routes by pattern: "*" stands for one word, "#" for any number of words.
	Topic ExchangeKind = "topic"
	// Headers routes by header values: x-match=all wants all of a binding's arguments
	// among the message's headers, with equal values; x-match=any wants one of them.
	// Arguments whose names begin with "x-" count with all-with-x and any-with-x only.
	Headers ExchangeKind = "headers"
	// ModulusHash routes to one binding, picked by hash(routing key) modulo the
	// number of bindings. Changing that number remaps nearly every key.
	ModulusHash ExchangeKind = "x-modulus-hash"
)

// QueueType is the kind of a queue, fixed when it is declared.
type QueueType string

// The queue types of RabbitMQ.
const (
	// Quorum is replicated and durable: the choice for everything that must not be lost.
	Quorum QueueType = "quorum"
	// Classic is not replicated: for transient messages and per-instance listeners.
	Classic QueueType = "classic"
	// Stream is an append-only log that many readers read without taking anything out.
	Stream QueueType = "stream"
)

// Overflow is what a queue does when it is full.
type Overflow string

// The overflow behaviours.
const (
	// DropHead drops (or dead-letters) the oldest message. The broker's default.
	DropHead Overflow = "drop-head"
	// RejectPublish refuses the new message: its publisher gets a nack.
	RejectPublish Overflow = "reject-publish"
	// RejectPublishDLX refuses the new message and dead-letters it too. Classic queues only.
	RejectPublishDLX Overflow = "reject-publish-dlx"
)

// Unlimited is the [Queue.DeliveryLimit] that switches the broker's limit of 20 off.
const Unlimited = -1

// Exchange is a durable exchange.
type Exchange struct {
	Name string
	Kind ExchangeKind
	// Alternate names the exchange that gets what this one cannot route.
	// With one, an unroutable message is confirmed and NOT returned to its
	// publisher. Written as a policy, so that it can change later.
	Alternate string
	// Internal exchanges take messages from other exchanges only, not from publishers.
	Internal bool
	// AutoDelete removes the exchange when its last binding is gone.
	AutoDelete bool
	// Federated exchanges also get what is published to the exchange of the same
	// name on each upstream, as far as bindings here ask for it: see [ApplyUpstreams].
	// Without the plugin rabbitmq_federation the broker refuses the policy.
	Federated bool
}

// LeaderLocator is where the leader of a new quorum queue or stream is put in a cluster.
type LeaderLocator string

// The leader locators.
const (
	// ClientLocal puts it on the node that the declaring client is connected to. The
	// broker's default, unless its configuration says otherwise.
	ClientLocal LeaderLocator = "client-local"
	// Balanced puts it where the fewest leaders are.
	Balanced LeaderLocator = "balanced"
)

// DeadLetter is where a queue sends what it gives up.
type DeadLetter struct {
	Exchange string
	// Key replaces the message's routing key. Required: the rule of this
	// package is the name of the queue that the message died in.
	Key string
	// AtMostOnce gives up the strategy at-least-once of quorum queues: it asks for
	// no reject-publish, and loses what falls due while the target cannot take it.
	// Classic queues know no other.
	AtMostOnce bool
}

// DelayedRetry is the broker's own delay before a failed message is delivered
// again (quorum queues, RabbitMQ 4.3): Min times the number of failures, at most Max.
// It applies to basic.reject with requeue, never to basic.nack.
type DelayedRetry struct {
	Min, Max time.Duration
}

// Queue is a durable queue, or an exclusive one that lives as long as its connection.
//
// Name, Type, SingleActiveConsumer, AutoDelete and MaxPriority can never change and
// are what the queue is declared with. Everything else may change while the system
// runs and is written as one policy, named like the queue: a changed argument would
// be refused with 406 on every later declare. Exclusive queues carry all as
// arguments, since the process that declares them is their only user.
//
// There is no field for what RabbitMQ has deprecated: lazy mode, and queues that are
// neither durable nor exclusive.
type Queue struct {
	// Name is empty for an exclusive queue that the server names.
	Name string
	Type QueueType
	// SingleActiveConsumer lets one consumer at a time receive; the next one takes
	// over when it goes. Needed for order, and not a fence: see [Consumer].
	SingleActiveConsumer bool
	// Exclusive queues belong to one connection and are gone with it. They are
	// declared by [Conn.Listen], never by [Apply].
	Exclusive bool
	// AutoDelete removes the queue when its last consumer is gone. Classic queues only.
	AutoDelete bool
	// MaxPriority gives a classic queue that many priorities, 1 to 255; small is
	// good. A quorum queue has 0 to 31 always.
	MaxPriority uint8

	// MaxLength and MaxLengthBytes bound the queue; 0 means no bound. A stream counts
	// bytes only.
	MaxLength      int64
	MaxLengthBytes int64
	Overflow       Overflow
	// MessageTTL expires messages that waited this long; 0 means never.
	MessageTTL time.Duration
	// DeliveryLimit is the number of counted redeliveries after which a quorum
	// queue dead-letters a message: a limit of N means N+1 attempts. 0 leaves the
	// broker's default of 20, [Unlimited] switches it off.
	DeliveryLimit int
	// DelayedRetry is nil for an immediate redelivery.
	DelayedRetry *DelayedRetry
	// DeadLetter is nil where nothing is dead-lettered. On quorum queues the
	// strategy is at-least-once, which needs Overflow to be RejectPublish.
	DeadLetter *DeadLetter
	// ConsumerTimeout is how long a consumer may hold a message; 0 leaves the
	// broker's default (30 min). A change reaches consumers that subscribe afterwards.
	ConsumerTimeout time.Duration
	// DisconnectedTimeout is how long a quorum queue waits for a cluster node that is
	// gone, before it gives what the consumers there held to others; 0 leaves the
	// broker's default (1 min).
	DisconnectedTimeout time.Duration
	// Expires removes the queue, with what is in it, when nobody has used it for
	// this long; 0 means never. Not for streams.
	Expires time.Duration
	// LeaderLocator is empty for the broker's default. It counts when the queue is
	// made; changed later, it moves nothing. Not for classic queues.
	LeaderLocator LeaderLocator
	// MaxAge is how long a stream keeps its messages; 0 means for ever.
	MaxAge time.Duration
}

// Binding makes messages flow from an exchange to a queue, or to another exchange.
type Binding struct {
	Source string
	// Destination is a queue's name, or an exchange's if ToExchange is set.
	Destination string
	ToExchange  bool
	Key         string
	// Match is the argument table of a binding from a [Headers] exchange, with "x-match".
	Match map[string]any
}

// User is a broker user and its rights in one virtual host. The rights are
// regular expressions over names of exchanges and queues; an empty one allows nothing.
type User struct {
	Name                   string
	Tags                   []string
	Configure, Write, Read string
}

// MessageType is a kind of message: its name with the version ("charge.v1"), the
// exchange it is published to and the broker user that alone may publish it. Messages of
// other programs often have neither type nor user id: an empty Name and an empty Owner
// stand for those.
type MessageType struct {
	Name     string
	Exchange string
	Owner    string
	// Codec makes and reads the bodies. Defaults to [JSONCodec].
	Codec Codec
}

// Topology is everything that lives on the broker, as data. It is a value: tools
// apply it, verify it and draw it; nothing is declared by importing it.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
	Users     []User
	Types     []MessageType
}

// Merge joins topologies in the given order.
func Merge(parts ...Topology) Topology {
	var all Topology
	for _, p := range parts {
		all.Exchanges = append(all.Exchanges, p.Exchanges...)
		all.Queues = append(all.Queues, p.Queues...)
		all.Bindings = append(all.Bindings, p.Bindings...)
		all.Users = append(all.Users, p.Users...)
		all.Types = append(all.Types, p.Types...)
	}
	return all
}

// Queue finds a queue by name.
func (t Topology) Queue(name string) (Queue, bool) {
	i := slices.IndexFunc(t.Queues, func(q Queue) bool { return q.Name == name })
	if i < 0 {
		return Queue{}, false
	}
	return t.Queues[i], true
}
