package contract

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// Operator is the broker user of the people who run the system. It alone may
// replay messages.
const Operator = "operator"

// DefaultPaymentDeadline is how long an order may stay unpaid.
const DefaultPaymentDeadline = 15 * time.Minute

// Priorities of commands, on the 0..31 scale of quorum queues. 0 cannot be used:
// an unset priority and 0 are the same on the wire, and both arrive as 4.
const (
	PriorityStandard = 4
	PriorityExpress  = 8
)

// Regions and tiers of an order.
const (
	RegionEU   = "eu"
	RegionUS   = "us"
	RegionAPAC = "apac"

	TierStandard = "standard"
	TierExpress  = "express"
)

// Priority returns the priority of a tier's commands.
func Priority(tier string) uint8 {
	if tier == TierExpress {
		return PriorityExpress
	}
	return PriorityStandard
}

// Currency is the only currency of prices. It has two decimals.
const Currency = "EUR"

// Money is an amount in the smallest unit of a currency: 1999 EUR is 19.99 euros.
type Money struct {
	AmountMinor int64  `json:"amount_minor"`
	Currency    string `json:"currency"`
}

// Validate checks an amount to be paid or refunded. The error names the wrong field.
func (m Money) Validate() error {
	switch {
	case m.AmountMinor <= 0:
		return errors.New("amount_minor: must be above zero")
	case m.Currency != Currency:
		return errors.New("currency: must be " + Currency)
	default:
		return nil
	}
}

// All is the whole topology, on one broker. paymentDeadline is how long an order may stay
// unpaid; 0 means [DefaultPaymentDeadline]. See [InRegion] for several brokers.
func All(paymentDeadline time.Duration) messaging.Topology { return all(paymentDeadline) }

// all is the topology whose notifier serves customers in these regions; none means all.
func all(paymentDeadline time.Duration, regions ...string) messaging.Topology {
	if paymentDeadline == 0 {
		paymentDeadline = DefaultPaymentDeadline
	}
	return messaging.Merge(opsTopology(), ordersTopology(paymentDeadline), billingTopology(), pricingTopology(), notifierTopology(regions...))
}

// Limits that most queues share. The maximal length is large, because a full queue makes the
// broker refuse a message for all queues of a fanout. Alerts should come long before.
const (
	workQueueLength = 500_000
	retryLimit      = 20
)

// workQueue is a quorum queue. A failed message is delivered again after 1 s, 2 s, ... 30 s;
// after 21 attempts it goes to the .dead queue.
func workQueue(name string) messaging.Queue {
	return messaging.Queue{
		Name:       name,
		Type:       messaging.Quorum,
		MaxLength:  workQueueLength,
		Overflow:   messaging.RejectPublish,
		Retry:      messaging.Retry{Limit: retryLimit, MinDelay: time.Second, MaxDelay: 30 * time.Second},
		DeadLetter: &messaging.DeadLetter{Exchange: DeadLetters, Key: name},
	}
}

// DeadQueue names the dead-letter queue of a queue.
func DeadQueue(queue string) string { return queue + ".dead" }

// withDeadQueues adds the dead-letter queue of each queue that dead-letters to [DeadLetters].
// These come first, so that they exist before anything can be dead-lettered.
func withDeadQueues(queues ...messaging.Queue) ([]messaging.Queue, []messaging.Binding) {
	var dead []messaging.Queue
	var bindings []messaging.Binding
	for _, q := range queues {
		if q.DeadLetter == nil || q.DeadLetter.Exchange != DeadLetters {
			continue
		}
		// With the broker's default limit, a message would be dropped after 20 reads by operators.
		dead = append(dead, messaging.Queue{Name: DeadQueue(q.Name), Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}})
		bindings = append(bindings, messaging.Binding{Source: DeadLetters, Destination: DeadQueue(q.Name), Key: q.Name})
	}
	return append(dead, queues...), bindings
}

// serverNamed matches the queues that the broker names, which every service may
// declare, bind and read for itself.
const serverNamed = `amq\.gen-.*`

// service is a broker user with only the permissions that the service needs.
func service(name string, write, read []string) messaging.User {
	return messaging.User{
		Name:      name,
		Configure: anyOf(),
		Write:     anyOf(append(write, OpsHeartbeats)...),
		Read:      anyOf(read...),
	}
}

// anyOf is a regular expression for these names and server-named queues only.
func anyOf(names ...string) string {
	parts := []string{serverNamed}
	for _, n := range names {
		parts = append(parts, regexp.QuoteMeta(n))
	}
	return "^(" + strings.Join(parts, "|") + ")$"
}
