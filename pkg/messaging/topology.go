package messaging

import (
	"slices"
	"time"
)

// ExchangeKind is how an exchange picks the queues and exchanges that get a message.
type ExchangeKind string

// The exchange kinds of RabbitMQ 4.3 that need no plugin. A kind of a plugin that the broker
// has can be used too, for example "x-delayed-message".
const (
	// Direct routes to bindings whose key equals the routing key.
	Direct ExchangeKind = "direct"
	// Fanout routes to every binding and ignores the routing key.
	Fanout ExchangeKind = "fanout"
	// Topic routes by pattern: "*" stands for one word, "#" for any number of words.
	Topic ExchangeKind = "topic"
	// Headers routes by header values. With x-match=all a message must have all arguments
	// of the binding as headers, with equal values; with x-match=any one of them. Arguments
	// whose names begin with "x-" are compared only with all-with-x and any-with-x.
	Headers ExchangeKind = "headers"
	// ModulusHash routes to one of its bindings, chosen by hash(routing key) modulo the
	// number of bindings. When that number changes, nearly every key gets another binding.
	ModulusHash ExchangeKind = "x-modulus-hash"
)

// QueueType is the kind of a queue, fixed when it is declared.
type QueueType string

// The queue types of RabbitMQ.
const (
	// Quorum is replicated and durable: for all messages that must not be lost.
	Quorum QueueType = "quorum"
	// Classic is not replicated: for transient messages and per-instance listeners.
	Classic QueueType = "classic"
	// Stream is an append-only log. Readers remove nothing from it.
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

// Unlimited is the [Retry.Limit] of a queue whose messages are tried without limit.
const Unlimited = -1

// Retry says what happens to a message whose handler fails, for every kind of queue: how
// often it is tried again, after which delay, and where it waits meanwhile. The zero value
// means 20 more attempts, with a delay from 100 ms to 5 s.
//
// Where the broker can do this, it does: Limit becomes the delivery limit of a quorum queue,
// and MinDelay and MaxDelay its delayed retry, unless messages are retried in place. The
// consumer does the rest. The table is at [Handler].
type Retry struct {
	// Limit is how often a failed message is tried again: after N+1 attempts it is parked.
	// 0 means 20, the broker's default, and [Unlimited] no limit.
	Limit int
	// The delay before the next attempt is MinDelay times the number of failures, at most
	// MaxDelay. Both must be set, or none, in whole milliseconds. 0 means that the consumer
	// waits 100 ms, doubling to 5 s.
	MinDelay, MaxDelay time.Duration
	// InPlace is for how long, counted from the first failure, the consumer keeps a failed
	// message and calls the handler again after the delays. After that the error counts as
	// [Permanent]. It is for queues that must keep order: if the message went back, later
	// ones would overtake it. 0 means 75 s on a queue with a single active consumer, and no
	// retries in place on other queues. A value below 0 means no retries in place on any
	// queue: with a single active consumer a failed message then goes back to the head of
	// the queue, which counts as an attempt.
	//
	// Each try has its own handler timeout, shortened to the time that is left. So all
	// tries together take no longer than the handler timeout plus InPlace, if the handler
	// obeys its context. Parking the message afterwards takes 10 s at most. Waiting because
	// of [Unavailable] is not counted.
	InPlace time.Duration
}

// Exchange is a durable exchange. Those that every virtual host has (amq.direct,
// amq.fanout, amq.topic, amq.headers, amq.match) need no description: a [Binding] names them.
type Exchange struct {
	Name string
	// Kind may be empty for an External one.
	Kind ExchangeKind
	// External exchanges are declared by others: they must exist, and are neither made nor
	// changed. Besides Name, only Kind and Internal may be set then.
	External bool
	// Alternate names the exchange that gets the messages that this one cannot route. With
	// it an unroutable message is confirmed and NOT returned to its publisher. It is set by
	// a policy, so that it can change later.
	Alternate string
	// Internal exchanges take messages from other exchanges only, not from publishers.
	Internal bool
	// AutoDelete removes the exchange when its last binding is gone.
	AutoDelete bool
	// Federated exchanges also get the messages that are published to the exchange with the
	// same name on each upstream, if a binding here matches them: see [ApplyUpstreams].
	// Without the plugin rabbitmq_federation the broker refuses the policy.
	Federated bool
	// Arguments are for settings that have no field here, such as "x-delayed-type" of a
	// plugin's kind. They are declared as they are, and can never change.
	Arguments map[string]any
}

// LeaderLocator says on which node of a cluster the leader of a new quorum queue or stream is.
type LeaderLocator string

// The leader locators.
const (
	// ClientLocal is the node that the declaring client is connected to. This is the
	// broker's default, unless its configuration says otherwise.
	ClientLocal LeaderLocator = "client-local"
	// Balanced is the node with the fewest leaders.
	Balanced LeaderLocator = "balanced"
)

// DeadLetter says where the dead letters of a queue are published.
type DeadLetter struct {
	// Exchange is empty for the default exchange, which routes them to the queue that Key
	// names. Consumers that park messages publish there too: with the default exchange
	// their user needs the right to write "amq.default", with which it can publish to every
	// queue.
	Exchange string
	// Key replaces the message's routing key, and is required. With an exchange of your
	// own, use the name of the queue that the messages come from.
	Key string
	// AtMostOnce sets the dead-letter strategy of a quorum queue to at-most-once, in place
	// of at-least-once. It does not need reject-publish, but loses messages that are
	// dead-lettered while the target cannot take them. Classic queues are always
	// at-most-once.
	AtMostOnce bool
}

// Queue is a durable queue, or an exclusive one that lives as long as its connection.
//
// The queue is declared with Name, Type, SingleActiveConsumer, AutoDelete and MaxPriority,
// which can never change. [Apply] sets all other fields by a policy with the name of the
// queue, so that they can change while the system runs: with a changed argument every later
// declare would be refused (406). An exclusive queue gets all settings as arguments, since
// only the process that declares it uses it.
//
// There is no field for features that RabbitMQ has deprecated: lazy mode, and queues that
// are neither durable nor exclusive.
type Queue struct {
	// Name may be empty for an exclusive queue: the broker chooses a name.
	Name string
	Type QueueType
	// External queues are declared by others: they must exist, and are neither made nor
	// changed. Only the name is required. [Verify] compares the fields that are set, and a
	// consumer uses them, see [Conn.Consume].
	External bool
	// SingleActiveConsumer delivers to one consumer at a time; when it goes, the next one
	// takes over. It is needed for order, but does not exclude that two handlers run at the
	// same time: see [Consumer].
	SingleActiveConsumer bool
	// Exclusive queues belong to one connection and are deleted with it. They are declared
	// by [Conn.Listen], never by [Apply].
	Exclusive bool
	// AutoDelete deletes the queue when its last consumer is gone. Classic queues only.
	AutoDelete bool
	// MaxPriority is the highest priority of a classic queue, 1 to 255; small numbers cost
	// less. A quorum queue always has the priorities 0 to 31.
	MaxPriority uint8

	// MaxLength and MaxLengthBytes limit the queue; 0 means no limit. A stream has only
	// MaxLengthBytes.
	MaxLength      int64
	MaxLengthBytes int64
	Overflow       Overflow
	// MessageTTL is how long a message may wait before it expires; 0 means no limit.
	MessageTTL time.Duration
	// Retry says what happens to failed messages. Not for streams and exclusive queues.
	Retry Retry
	// DeadLetter is nil when messages are not dead-lettered. On quorum queues the strategy
	// is at-least-once, which needs RejectPublish as the Overflow.
	DeadLetter *DeadLetter
	// ConsumerTimeout is how long a consumer may hold a message; 0 leaves the
	// broker's default (30 min). A change reaches consumers that subscribe afterwards.
	ConsumerTimeout time.Duration
	// DisconnectedTimeout is how long a quorum queue waits for a cluster node that is gone,
	// before it delivers the messages of the consumers on that node to others; 0 leaves the
	// broker's default (1 min).
	DisconnectedTimeout time.Duration
	// Expires deletes the queue and its messages when it was not used for this long; 0
	// means never. Not for streams.
	Expires time.Duration
	// LeaderLocator is empty for the broker's default. It is used when the queue is
	// declared; a later change moves nothing. Not for classic queues.
	LeaderLocator LeaderLocator
	// MaxAge is how long a stream keeps its messages; 0 means for ever.
	MaxAge time.Duration
	// Arguments are for settings that have no field here. They are declared as they are,
	// can never change, and have precedence over policies. An argument for which there is a
	// field is refused. A consumer does not use them.
	Arguments map[string]any
}

// Binding routes messages from an exchange to a queue or to another exchange.
type Binding struct {
	Source string
	// Destination is a queue's name, or an exchange's if ToExchange is set.
	Destination string
	ToExchange  bool
	Key         string
	// Match is the argument table of the binding. For a [Headers] exchange it has the
	// headers to match and "x-match". For a plugin's kind, and for an external exchange
	// without a Kind, it is passed on as it is. The other kinds ignore it.
	Match map[string]any
}

// User is a broker user and its rights in one virtual host. Each right is a regular
// expression for names of exchanges and queues; an empty one allows nothing.
type User struct {
	Name                   string
	Tags                   []string
	Configure, Write, Read string
}

// MessageType is a kind of message: its name with the version ("charge.v1"), the exchange
// that it is published to, and the only broker user that may publish it, or [AnyOwner].
// Messages of other programs often have no type and no user id: an empty Name and an empty
// Owner mean that.
type MessageType struct {
	Name     string
	Exchange string
	Owner    string
	// Codec encodes and decodes the bodies. Defaults to [JSONCodec].
	Codec Codec
}

// Topology describes all that is to be on the broker, as data. Tools apply it, verify it
// and draw it. A program that only imports it declares nothing.
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

// predeclared has the exchanges of every virtual host, without the default exchange.
var predeclared = []Exchange{
	{Name: "amq.direct", Kind: Direct},
	{Name: "amq.fanout", Kind: Fanout},
	{Name: "amq.topic", Kind: Topic},
	{Name: "amq.headers", Kind: Headers},
	{Name: "amq.match", Kind: Headers},
	{Name: "amq.rabbitmq.trace", Kind: Topic, Internal: true},
}

// exchange finds an exchange by name, in the topology or among the predeclared ones.
func (t Topology) exchange(name string) (Exchange, bool) {
	for _, all := range [][]Exchange{t.Exchanges, predeclared} {
		if i := slices.IndexFunc(all, func(x Exchange) bool { return x.Name == name }); i >= 0 {
			return all[i], true
		}
	}
	return Exchange{}, false
}
