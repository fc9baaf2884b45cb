package main

import (
	"context"
	"slices"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
)

// A fault breaks something and mends it again; it ends when everything is as it was.
// Its error says that it could not, or that nobody felt it.
type fault struct {
	name   string
	takes  time.Duration // about; for the script
	strike func(ctx context.Context, d *run) error
}

// long faults strike alone only: two of them would leave nobody to go on.
func (f fault) long() bool { return f.takes > time.Minute }

// beside says that the others strike meanwhile: this one takes long, and breaks nothing
// for them.
func (f fault) beside() bool { return slices.Contains(besides, f.name) }

// turn says which faults come earlier: what goes on beside the others begins, and the
// queue is deleted when no charge is in it, also none that the provider never answers.
func (f fault) turn() int {
	switch {
	case f.beside():
		return 0
	case f.name == queueDeletedName:
		return 2
	default:
		return 1
	}
}

const queueDeletedName = "queue deleted under its consumers"

var (
	brokerKilled = fault{"broker killed", 10 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.kill("rabbitmq"), d.brokerBack)
	}}
	brokerStopped = fault{"broker stopped for 30 s, deadlines fall due", 56 * time.Second, deadlinesPass}
	brokerFrozen  = fault{"broker frozen for 20 s", 21 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.freeze("rabbitmq"), pause(20*time.Second), d.docker("unpause", "rabbitmq"), d.brokerBack)
	}}
	connectionsClosed = fault{"all connections closed", 4 * time.Second, func(ctx context.Context, d *run) error {
		since := time.Now()
		return d.steps(ctx, d.ctl("close_all_connections chaos"), d.says("orders", "connection lost", since), d.says("billing", "connection lost", since))
	}}
	memoryAlarm = fault{"memory alarm for 10 s", 15 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.ctl("set_vm_memory_high_watermark 0.0000001"), d.alarmed, pause(10*time.Second), d.ctl("set_vm_memory_high_watermark 0.6"))
	}}
	diskAlarm = fault{"disk alarm for 10 s", 17 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.ctl("set_disk_free_limit 100000GB"), d.alarmed, pause(10*time.Second), d.ctl("set_disk_free_limit 500MB"))
	}}

	networkCut = fault{"network of billing cut for 10 s", 13 * time.Second, func(ctx context.Context, d *run) error {
		network := d.system.project + "_default"
		return d.steps(ctx,
			d.each("network disconnect "+network, "billing"), pause(10*time.Second), d.each("network connect --alias billing "+network, "billing"))
	}}
	networkSlow = fault{"network of billing slow (200 ms) for 15 s", 16 * time.Second, func(ctx context.Context, d *run) error {
		return d.toxic(ctx, "latency", toxiproxy.Attributes{"latency": 200}, pause(15*time.Second))
	}}
	networkHalfOpen = fault{"network of billing half-open for 20 s", 21 * time.Second, func(ctx context.Context, d *run) error {
		return d.toxic(ctx, "timeout", toxiproxy.Attributes{"timeout": 0}, pause(20*time.Second)) // carries nothing, closes nothing
	}}
	billingFrozen = fault{"a billing replica frozen for 25 s", 26 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.one("pause", "billing", 1), pause(25*time.Second), d.one("unpause", "billing", 1))
	}}

	ordersKilled   = fault{"orders killed", 4 * time.Second, func(ctx context.Context, d *run) error { return d.kill("orders")(ctx) }}
	billingKilled  = fault{"billing killed", 4 * time.Second, func(ctx context.Context, d *run) error { return d.kill("billing")(ctx) }}
	notifierKilled = fault{"notifier killed", 4 * time.Second, func(ctx context.Context, d *run) error { return d.kill("notifier")(ctx) }}
	pricingKilled  = fault{"pricing-rpc killed", 3 * time.Second, func(ctx context.Context, d *run) error { return d.kill("pricing-rpc")(ctx) }}
	rollingRestart = fault{"rolling restart", 18 * time.Second, restartAll}

	databaseRestarted = fault{"database restarted", 3 * time.Second, func(ctx context.Context, d *run) error {
		return d.docker("restart -t 30", "postgres")(ctx)
	}}
	databaseKilled = fault{"database killed", 3 * time.Second, func(ctx context.Context, d *run) error { return d.kill("postgres")(ctx) }}
	pricingAway    = fault{"pricing away for 30 s", 32 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("stop -t 45", "pricing-rpc"), pause(30*time.Second), d.docker("start", "pricing-rpc"))
	}}
	providerDown = fault{"provider down for 30 s", 32 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("stop -t 45", "sandbox"), pause(30*time.Second), d.docker("start", "sandbox"), d.worldAgain)
	}}
	providerLate = fault{"provider answers after the time-out", 16 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.freeze("sandbox"), pause(15*time.Second), d.docker("unpause", "sandbox"))
	}}

	killedAfterCapture = fault{"billing killed between capture and commit", 6 * time.Second, killAfterCapture}
	killedAfterCommit  = fault{"billing killed between commit and ack", 6 * time.Second, killAfterCommit}
	killedAfterConfirm = fault{"orders killed between confirm and the outbox's commit", 4 * time.Second, killAfterConfirm}
	consumerTimeout    = fault{"consumer timeout of billing.charge", 6 * time.Second, timeOut}
	queueDeleted       = fault{queueDeletedName, 18 * time.Second, deleteQueue}
	poisoned           = fault{"poison in every queue", 2 * time.Second, injectPoison}
	neverAnswered      = fault{"a charge that the provider never answers", 9 * time.Minute, neverAnswer}
)

// besides are the names of the faults that others strike beside.
var besides = []string{neverAnswered.name, mailAway.name}

// faults are all there are for one broker, in no particular order: the seed has its own.
var faults = []fault{
	brokerKilled, brokerStopped, brokerFrozen, connectionsClosed, memoryAlarm, diskAlarm,
	networkCut, networkSlow, networkHalfOpen, billingFrozen,
	ordersKilled, billingKilled, notifierKilled, pricingKilled, rollingRestart,
	databaseRestarted, databaseKilled, pricingAway, providerDown, providerLate,
	killedAfterCapture, killedAfterCommit, killedAfterConfirm, consumerTimeout, queueDeleted, poisoned,
	mailsHang, shardHangs, databaseAway, providerRefuses, mailAway, neverAnswered,
}

// rarely are the faults that strike only where ONLY names them.
var rarely = []fault{ordersClosed}

// goesOn is how soon after the broker is ready work must go on.
const goesOn = 3 * time.Second

// brokerAway are the faults after which it must. The one that stops the broker stops
// billing too, and while a node is isolated the others are ready.
var brokerAway = []string{
	brokerKilled.name, brokerFrozen.name,
	firstNodeKilled.name, secondNodeKilled.name, thirdNodeKilled.name, leaderKilled.name, nodesRestarted.name,
}
