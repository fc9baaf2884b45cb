// Package faults breaks a running system on purpose. Each fault does its damage, waits
// until it is felt where that can be seen, and repairs what it has broken; then it ends.
package faults

import (
	"context"
	"time"

	"example.com/orderflow/contract"
)

// PaymentDeadline is short enough to pass during some faults.
const PaymentDeadline = 30 * time.Second

// Topology is what the broker has.
var Topology = contract.All(PaymentDeadline)

// A Fault breaks something and repairs it again.
type Fault struct {
	Name string
	// Takes is about how long Run takes, for the script.
	Takes time.Duration
	// Beside says that other faults go on meanwhile: this one takes long, and breaks
	// nothing that they need.
	Beside bool
	// Last says that the fault must begin after all others that go on alone: it waits for
	// the end of some that go on beside them.
	Last bool
	// BrokerAway says that the broker is away and nothing else is. Work must go on soon
	// after it is ready. It is not so where billing is stopped too, and where a node is
	// isolated while the others are ready.
	BrokerAway bool

	run func(ctx context.Context, in *Injector) error
}

// Run breaks, waits and repairs. A ledger.Finding as its error says that the fault worked
// and has shown something that must not be. Any other error says that it did not work, or
// was not felt; then Injector.RepairAll is needed.
func (f Fault) Run(ctx context.Context, in *Injector) error { return f.run(ctx, in) }

// Long says that the fault goes on alone only: two of them would leave nobody to work.
func (f Fault) Long() bool { return f.Takes > time.Minute }

// All are the faults of a system with one broker, in no particular order.
var All = []Fault{
	BrokerKilled, BrokerStopped, BrokerFrozen, ConnectionsClosed, MemoryAlarm, DiskAlarm,
	NetworkCut, NetworkSlow, NetworkHalfOpen, BillingFrozen,
	OrdersKilled, BillingKilled, NotifierKilled, PricingKilled, RollingRestart,
	DatabaseRestarted, DatabaseKilled, PricingAway, ProviderDown, ProviderLate,
	KilledAfterCapture, KilledAfterCommit, KilledAfterConfirm, ConsumerTimeout, QueueDeleted, Poisoned,
	MailsHang, ShardHangs, DatabaseAway, ProviderRefuses, MailAway, NeverAnswered,
}

// OnlyByName are faults that a run has only when it asks for them by name.
var OnlyByName = []Fault{OrdersClosed}

// Cluster are the faults of a system with three brokers.
var Cluster = []Fault{
	FirstNodeKilled, SecondNodeKilled, ThirdNodeKilled, LeaderKilled, LeaderIsolated, NodesRestarted,
	ConnectionsClosed, BillingKilled, OrdersKilled, RollingRestart, DatabaseKilled, ProviderLate, Poisoned,
}
