package messaging

import (
	"slices"
	"time"
)

// ExchangeKind is how an exchange picks the queues and exchanges that get a message.
type ExchangeKind string

// The exchange kinds of RabbitMQ 4.3 that need no plugin. Any other one that the broker
// has will do as well: "x-delayed-message", for example.
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

// Unlimited is the [Retry.Limit] of a queue whose messages are tried for ever.
const Unlimited = -1

// Retry is what happens to a message whose handler fails, for every kind of queue: how
// often it is tried again, after which delay, and where it waits meanwhile. The zero value
// is good: 20 more attempts, with a delay from 100 ms to 5 s.
//
// The broker does what it can do: the limit of every quorum queue is its delivery limit,
// and MinDelay and MaxDelay are its delayed retry, unless the message is kept in place.
// The consumer does the rest. The table is at [Handler].
type Retry struct {
	// Limit is how often a failed message is tried again: a limit of N means N+1
	// attempts, and then it is parked. 0 means 20, as the broker has it, and [Unlimited]
	// no limit.
	Limit int
	// MinDelay times the number of failures, at most MaxDelay, is the delay before the
	// next attempt. They are given together, in whole milliseconds. 0 means that the
	// consumer waits 100 ms, doubling to 5 s.
	MinDelay, MaxDelay time.Duration
	// InPlace keeps a failed message with the consumer, which calls the handler again
	// after the delays, for this long, counted from the first failure; then the error
	// is as [Permanent]. It is for queues that must keep order, on which a message that
	// went back would be overtaken. 0 means 75 s on a queue with a single active
	// consumer, and not at all elsewhere; below 0 is not at all there either: the message
	// goes back to the head of its queue, which is an attempt.
	//
	// Each try has its own handler timeout, cut to what is left: all of them together
	// take no longer than the handler timeout and this, as long as handlers honour their
	// context. To park it afterwards takes 10 s at most. Waiting for what is
	// [Unavailable] is not counted.
	InPlace time.Duration
}

// Exchange is a durable exchange. Those that every virtual host has (amq.direct,
// amq.fanout, amq.topic, amq.headers, amq.match) need no description: a [Binding] names them.
type Exchange struct {
	Name string
	// Kind may be empty for an External one.
	Kind ExchangeKind
	// External exchanges are somebody else's: they must be there, and are neither made
	// nor changed. Besides its Name, an external one has a Kind and Internal at most.
	External bool
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
	// Arguments are declared as they are, for what has no field here: what a plugin's
	// kind wants ("x-delayed-type"). They can never change.
	Arguments map[string]any
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
	// Exchange is empty for the default exchange, which takes them to the queue that Key
	// names. A consumer publishes there too: with an empty one its user needs the right
	// to write "amq.default", by which it reaches every queue.
	Exchange string
	// Key replaces the message's routing key, and is required. With an exchange of your
	// own it is best the name of the queue that the message died in.
	Key string
	// AtMostOnce gives up the strategy at-least-once of quorum queues: it asks for
	// no reject-publish, and loses what falls due while the target cannot take it.
	// Classic queues know no other.
	AtMostOnce bool
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
	// External queues are somebody else's: they must be there, and are neither made nor
	// changed. What their description says of them is compared by [Verify], and may be
	// as little as the name; a consumer needs it, see [Conn.Consume].
	External bool
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
	// Retry is what happens to failed messages. Not for streams and exclusive queues.
	Retry Retry
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
	// Arguments are declared as they are, for what has no field here. They can never
	// change, beat a policy, and are refused for what a field here says as well. A
	// consumer does not look at them.
	Arguments map[string]any
}

// Binding makes messages flow from an exchange to a queue, or to another exchange.
type Binding struct {
	Source string
	// Destination is a queue's name, or an exchange's if ToExchange is set.
	Destination string
	ToExchange  bool
	Key         string
	// Match is the argument table of the binding. From a [Headers] exchange it says what
	// to match, with "x-match"; from one of a plugin's kind, or an external one without a
	// Kind, it is whatever that wants. The other kinds do not look at it.
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
// exchange it is published to and the broker user that alone may publish it, or
// [AnyOwner]. Messages of other programs often have neither type nor user id: an empty Name
// and an empty Owner stand for those.
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

// Queue finds a queue by name.
func (t Topology) Queue(name string) (Queue, bool) {
	i := slices.IndexFunc(t.Queues, func(q Queue) bool { return q.Name == name })
	if i < 0 {
		return Queue{}, false
	}
	return t.Queues[i], true
}

// predeclared are the exchanges that every virtual host has, without the default one.
var predeclared = []Exchange{
	{Name: "amq.direct", Kind: Direct},
	{Name: "amq.fanout", Kind: Fanout},
	{Name: "amq.topic", Kind: Topic},
	{Name: "amq.headers", Kind: Headers},
	{Name: "amq.match", Kind: Headers},
	{Name: "amq.rabbitmq.trace", Kind: Topic, Internal: true},
}

// exchange finds an exchange by name: of the topology, or of those that are always there.
func (t Topology) exchange(name string) (Exchange, bool) {
	for _, all := range [][]Exchange{t.Exchanges, predeclared} {
		if i := slices.IndexFunc(all, func(x Exchange) bool { return x.Name == name }); i >= 0 {
			return all[i], true
		}
	}
	return Exchange{}, false
}
