package contract

import (
	"time"

	"example.com/orderflow/pkg/messaging"
)

// Exchanges and queues that belong to the system as a whole.
const (
	// DeadLetters routes each dead letter to the .dead queue, by the name of its first queue.
	DeadLetters = "dead.letters"
	// Unrouted is the alternate exchange of the event exchanges, and its queue.
	Unrouted = "unrouted"
	// Audit is the stream of all events.
	Audit = "audit"
	// OpsHeartbeats carries the heartbeats of all processes.
	OpsHeartbeats = "ops.heartbeats"
)

// Heartbeat is published by every instance. It has no owner, so consumers must not trust it.
var Heartbeat = messaging.MessageType{Name: "heartbeat.v1", Exchange: OpsHeartbeats}

// HeartbeatBody is the body of heartbeat.v1.
type HeartbeatBody struct {
	Service       string           `json:"service"`
	Instance      string           `json:"instance"`
	Version       string           `json:"version"`
	InFlight      int64            `json:"in_flight"`
	UptimeSeconds int64            `json:"uptime_seconds"`
	Counters      map[string]int64 `json:"counters,omitempty"`
}

// AuditStream keeps every event for a week.
var AuditStream = messaging.Queue{Name: Audit, Type: messaging.Stream, MaxAge: 7 * 24 * time.Hour}

// HeartbeatListener is the queue of one instance that watches heartbeats.
var HeartbeatListener = messaging.Queue{Type: messaging.Classic, Exclusive: true, MaxLength: 1000, Overflow: messaging.DropHead}

func opsTopology() messaging.Topology {
	return messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: DeadLetters, Kind: messaging.Direct},
			{Name: Unrouted, Kind: messaging.Fanout},
			{Name: OpsHeartbeats, Kind: messaging.Fanout},
		},
		Queues: []messaging.Queue{
			{Name: Unrouted, Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}},
			AuditStream,
		},
		Bindings: []messaging.Binding{
			{Source: Unrouted, Destination: Unrouted},
			{Source: OrdersEvents, Destination: Audit, Key: "#"},
			{Source: BillingEvents, Destination: Audit},
		},
		Users: []messaging.User{{
			Name:      Operator,
			Configure: anyOf(),
			Write:     anyOf("amq.default", OrdersEvents, BillingEvents, PricesChanged, OrdersPayments),
			Read:      `^(` + serverNamed + `|.*\.dead|unrouted|audit)$`,
		}},
		Types: []messaging.MessageType{Heartbeat},
	}
}
