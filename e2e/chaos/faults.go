package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A fault breaks something and mends it again; it ends when everything is as it was.
type fault struct {
	name   string
	takes  time.Duration // about; for the script
	strike func(ctx context.Context, d *run) error
}

var (
	brokerKilled = fault{"broker killed", 15 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.kill("rabbitmq"), d.system.brokerUp)
	}}
	// Whoever ordered in the last half minute and has not paid is past the deadline then.
	brokerStopped = fault{"broker stopped for 30 s, deadlines fall due", 45 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("stop -t 60", "rabbitmq"), pause(paymentDeadline), d.docker("start", "rabbitmq"), d.system.brokerUp)
	}}
	brokerFrozen = fault{"broker frozen for 20 s", 21 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("pause", "rabbitmq"), pause(20*time.Second), d.docker("unpause", "rabbitmq"), d.system.brokerUp)
	}}
	connectionsClosed = fault{"all connections closed", 2 * time.Second, func(ctx context.Context, d *run) error {
		return d.system.rabbitmqctl(ctx, "close_all_connections chaos")
	}}
	memoryAlarm = fault{"memory alarm for 10 s", 14 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.ctl("set_vm_memory_high_watermark 0.0000001"), pause(10*time.Second), d.ctl("set_vm_memory_high_watermark 0.6"))
	}}
	diskAlarm = fault{"disk alarm for 10 s", 14 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.ctl("set_disk_free_limit 100000GB"), pause(10*time.Second), d.ctl("set_disk_free_limit 500MB"))
	}}

	networkCut = fault{"network of billing cut for 10 s", 14 * time.Second, func(ctx context.Context, d *run) error {
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

	ordersKilled  = fault{"orders killed", 8 * time.Second, func(ctx context.Context, d *run) error { return d.steps(ctx, d.kill("orders")) }}
	billingKilled = fault{"billing killed", 8 * time.Second, func(ctx context.Context, d *run) error { return d.steps(ctx, d.kill("billing")) }}
	notifierKill  = fault{"notifier killed", 8 * time.Second, func(ctx context.Context, d *run) error { return d.steps(ctx, d.kill("notifier")) }}
	pricingKilled = fault{"pricing-rpc killed", 8 * time.Second, func(ctx context.Context, d *run) error { return d.steps(ctx, d.kill("pricing-rpc")) }}
	// Each replica stops as it is asked to, and comes back before the next one goes.
	rollingRestart = fault{"rolling restart", 25 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.each("restart -t 40", "orders"), d.each("restart -t 40", "billing"), d.each("restart -t 40", "notifier"), d.each("restart -t 40", "pricing-rpc"))
	}}

	databaseRestarted = fault{"database restarted", 6 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("restart -t 30", "postgres"))
	}}
	databaseKilled = fault{"database killed", 6 * time.Second, func(ctx context.Context, d *run) error { return d.steps(ctx, d.kill("postgres")) }}
	pricingAway    = fault{"pricing away for 30 s", 32 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("stop -t 40", "pricing-rpc"), pause(30*time.Second), d.docker("start", "pricing-rpc"))
	}}
	providerDown = fault{"provider down for 30 s", 32 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("stop -t 40", "sandbox"), pause(30*time.Second), d.docker("start", "sandbox"))
	}}
	providerLate = fault{"provider answers after the time-out", 16 * time.Second, func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.docker("pause", "sandbox"), pause(15*time.Second), d.docker("unpause", "sandbox"))
	}}

	killedAfterCapture = fault{"billing killed between capture and commit", 10 * time.Second, killAfterCapture}
	killedAfterCommit  = fault{"billing killed between commit and ack", 10 * time.Second, killAfterCommit}
	killedAfterConfirm = fault{"orders killed between confirm and the outbox's commit", 10 * time.Second, killAfterConfirm}
	consumerTimeout    = fault{"consumer timeout of billing.charge", 10 * time.Second, timeOut}
	queueDeleted       = fault{"queue deleted under its consumers", 15 * time.Second, deleteQueue}
	poisoned           = fault{"poison in every queue", 2 * time.Second, poison}
)

// faults are all there are, in no particular order: the seed has its own.
var faults = []fault{
	brokerKilled, brokerStopped, brokerFrozen, connectionsClosed, memoryAlarm, diskAlarm,
	networkCut, networkSlow, networkHalfOpen, billingFrozen,
	ordersKilled, billingKilled, notifierKill, pricingKilled, rollingRestart,
	databaseRestarted, databaseKilled, pricingAway, providerDown, providerLate,
	killedAfterCapture, killedAfterCommit, killedAfterConfirm, consumerTimeout, queueDeleted, poisoned,
}

// killAfterCapture lets the provider capture, and holds the transaction that would
// write it down until the process is dead.
func killAfterCapture(ctx context.Context, d *run) error {
	return d.held(ctx, "billing", "ledger", "INSERT INTO ledger%", d.kill("billing"))
}

// killAfterConfirm lets the relay publish, and holds the transaction that would
// take the messages out of the outbox until the process is dead.
func killAfterConfirm(ctx context.Context, d *run) error {
	return d.held(ctx, "orders", "outbox", "DELETE FROM outbox%", d.kill("orders"))
}

// held locks a table against writes, waits until a statement wants to write to it,
// does something meanwhile, and lets go.
func (d *run) held(ctx context.Context, database, table, statement string, do step) (err error) {
	conn, err := d.system.database(ctx, "postgres", d.system.superuser, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }() // this lets go
	err = poll(ctx, 30*time.Second, func() error {
		if _, err := conn.Exec(ctx, "ROLLBACK; BEGIN; LOCK TABLE "+table+" IN SHARE MODE"); err != nil {
			return fmt.Errorf("lock %s: %w", table, err)
		}
		// The lock keeps away new work too: where there was none, try again.
		return poll(ctx, time.Second, func() error {
			if _, err := conn.Exec(ctx, "SELECT pg_stat_clear_snapshot()"); err != nil { // a transaction sees one moment of it else
				return err
			}
			var waiting int
			err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock' AND ltrim(query, E' \t\n') LIKE $2`, database, statement).Scan(&waiting)
			if err == nil && waiting == 0 {
				err = fmt.Errorf("no %q waits in %s", statement, database)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return do(ctx)
}

// killAfterCommit lets billing hear the broker and not answer, until it has written
// down at least one payment more.
func killAfterCommit(ctx context.Context, d *run) error {
	toxic, err := d.system.wire.AddToxic("mute", "timeout", "upstream", 1, toxiproxy.Attributes{"timeout": 0})
	if err != nil {
		return err
	}
	before, err := d.payments(ctx)
	if err == nil {
		err = poll(ctx, 30*time.Second, func() error {
			now, err := d.payments(ctx)
			if err == nil && now == before {
				err = errors.New("billing writes nothing down")
			}
			return err
		})
	}
	if err == nil {
		err = d.each("kill -s KILL", "billing")(ctx)
	}
	return errors.Join(err, d.system.wire.RemoveToxic(toxic.Name), d.each("start", "billing")(ctx))
}

// payments is how many have come to an end in billing's books.
func (d *run) payments(ctx context.Context) (int, error) {
	n, err := d.system.counts(ctx, "billing", `SELECT 'payments', count(*)::text FROM payments WHERE state <> 'pending'`)
	return n["payments"], err
}

// timeOut makes the broker lose patience with charges that the provider delays.
func timeOut(ctx context.Context, d *run) error {
	const path = "/api/policies/%2F/billing.charge"
	var policy map[string]any
	if err := d.system.management(ctx, http.MethodGet, path, nil, &policy); err != nil {
		return err
	}
	changed := maps.Clone(policy["definition"].(map[string]any))
	changed["consumer-timeout"] = 1000
	put := func(definition any) step {
		return func(ctx context.Context) error {
			return d.system.management(ctx, http.MethodPut, path, map[string]any{
				"pattern": policy["pattern"], "definition": definition, "priority": policy["priority"], "apply-to": policy["apply-to"],
			}, nil)
		}
	}
	err := d.steps(ctx, put(changed), d.docker("pause", "sandbox"), pause(8*time.Second), d.docker("unpause", "sandbox"))
	return errors.Join(err, put(policy["definition"])(context.WithoutCancel(ctx)))
}

// deleteQueue takes billing.charge away when it is empty and nobody buys, then
// customers come again, and at last the topology is applied.
func deleteQueue(ctx context.Context, d *run) error {
	d.load.paused.Lock()
	err := poll(ctx, time.Minute, func() error {
		queues, err := d.system.queues(ctx)
		if n := queues["billing.charge"]; err == nil && n > 0 {
			err = fmt.Errorf("%d messages are in billing.charge", n)
		}
		return err
	})
	if err == nil {
		err = d.system.rabbitmqctl(ctx, "delete_queue billing.charge")
	}
	d.load.paused.Unlock()
	if err != nil {
		return err
	}
	_, err = d.system.compose(ctx, "up --no-build --no-deps topology")
	// A queue that was declared a moment ago may lose what it confirmed when the
	// broker is killed (design, section 6).
	return errors.Join(err, wait(ctx, 3*time.Second))
}

// poison puts a message that nobody can read into every queue that has dead letters.
func poison(ctx context.Context, d *run) error {
	queues, err := d.system.queues(ctx)
	if err != nil {
		return err
	}
	for dead := range queues {
		queue, ok := strings.CutSuffix(dead, ".dead")
		if !ok {
			continue
		}
		id := uuid.NewString()
		d.injected[id] = queue
		// The broker may be away, by another fault: what is not confirmed is sent again.
		if err := poll(ctx, time.Minute, func() error { return d.inject(ctx, queue, id) }); err != nil {
			return fmt.Errorf("poison for %s: %w", queue, err)
		}
	}
	return nil
}

func (d *run) inject(ctx context.Context, queue, id string) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		MessageId: id, Type: "charge.v1", ContentType: "application/json", DeliveryMode: amqp.Persistent, UserId: "admin", Body: []byte(`{"payment_id":`),
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stored, err := confirm.WaitContext(waiting)
	if err == nil && !stored {
		err = errors.New("the broker refused it")
	}
	return err
}

// The steps of faults.

type step func(ctx context.Context) error

func (d *run) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(how time.Duration) step {
	return func(ctx context.Context) error { return wait(ctx, how) }
}

// kill ends every replica of a service with SIGKILL and starts them again.
func (d *run) kill(service string) step {
	return func(ctx context.Context) error {
		return d.steps(ctx, d.docker("kill -s KILL", service), d.docker("start", service))
	}
}

// docker runs a docker command on all replicas of a service at once.
func (d *run) docker(command, service string) step {
	return func(ctx context.Context) error { return d.system.docker(ctx, command, service) }
}

// each runs it on one after the other.
func (d *run) each(command, service string) step {
	return func(ctx context.Context) error {
		for n := range replicas[service] {
			if err := d.system.one(ctx, command, service, n+1); err != nil {
				return err
			}
		}
		return nil
	}
}

func (d *run) one(command, service string, number int) step {
	return func(ctx context.Context) error { return d.system.one(ctx, command, service, number) }
}

func (d *run) ctl(arguments string) step {
	return func(ctx context.Context) error { return d.system.rabbitmqctl(ctx, arguments) }
}

// toxic spoils billing's way to the broker, in both directions, for as long as a step takes.
func (d *run) toxic(ctx context.Context, kind string, attributes toxiproxy.Attributes, during step) error {
	for _, direction := range []string{"upstream", "downstream"} {
		toxic, err := d.system.wire.AddToxic(kind+" "+direction, kind, direction, 1, attributes)
		if err != nil {
			return err
		}
		defer func() { _ = d.system.wire.RemoveToxic(toxic.Name) }()
	}
	return during(ctx)
}
