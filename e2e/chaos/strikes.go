package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/contract"
)

// The faults that need more than a few steps.

// deadlinesPass lets customers order what nobody charges, and takes the broker away
// until these orders are past their deadlines: they must be cancelled by that, before
// billing comes back and charges them, late.
func deadlinesPass(ctx context.Context, d *run) error {
	if err := d.steps(ctx, d.docker("stop -t 45", "billing"), pause(5*time.Second)); err != nil {
		return err
	}
	before := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano) // their deadlines are not in the outbox any more
	unpaid := func() error {
		n, err := d.system.counts(ctx, "orders", `SELECT 'unpaid', count(*)::text FROM orders WHERE status = 'placed' AND created_at < '`+before+`'`)
		if err == nil && n["unpaid"] > 0 {
			err = fmt.Errorf("%w: %d", errUnpaid, n["unpaid"])
		}
		return err
	}
	if err := unpaid(); !errors.Is(err, errUnpaid) {
		return errors.Join(err, errors.New("no order waits for its deadline"))
	}
	err := d.steps(ctx, d.docker("stop -t 60", "rabbitmq"), pause(paymentDeadline), d.docker("start", "rabbitmq"), d.system.brokerUp)
	if err != nil {
		return err
	}
	if err := poll(ctx, time.Minute, unpaid); err != nil {
		return err
	}
	return d.docker("start", "billing")(ctx)
}

var errUnpaid = errors.New("orders are neither paid nor cancelled")

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

// killAfterCommit lets billing hear the broker and not answer for as long as it
// takes to write down what it has in hand. That comes again, and is recognised.
func killAfterCommit(ctx context.Context, d *run) error {
	toxic, err := d.system.wire.AddToxic("mute", "timeout", "upstream", 1, toxiproxy.Attributes{"timeout": 0})
	if err != nil {
		return err
	}
	err = d.steps(ctx, pause(2*time.Second), d.each("kill -s KILL", "billing"))
	since := time.Now()
	err = errors.Join(err, d.system.wire.RemoveToxic(toxic.Name), d.each("start", "billing")(ctx))
	if err != nil {
		return err
	}
	return d.says("billing", "settled already", since)(ctx)
}

// timeOut makes the broker lose patience with charges that the provider delays. The
// policy says nothing to consumers that are there already (measured with RabbitMQ
// 4.3.6), so billing has to subscribe anew, before and after.
func timeOut(ctx context.Context, d *run) error {
	path := "/api/policies/%2F/" + contract.BillingCharge.Name
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
	subscribe := d.ctl("close_all_user_connections " + contract.BillingUser + " chaos")
	err := d.steps(ctx, put(changed), subscribe, d.freeze("sandbox"),
		d.says("billing", "cancelled by the broker", time.Now()), d.docker("unpause", "sandbox"))
	return errors.Join(err, d.steps(context.WithoutCancel(ctx), put(policy["definition"]), subscribe))
}

// deleteQueue takes billing.charge away when nobody buys and every order is charged,
// then customers come again, and at last the topology is applied.
func deleteQueue(ctx context.Context, d *run) error {
	d.load.paused.Lock()
	var quiet time.Time
	err := poll(ctx, 4*time.Minute, func() error {
		err := d.nobodyPays(ctx)
		if err != nil {
			quiet = time.Time{}
			return err
		}
		if quiet.IsZero() {
			quiet = time.Now()
		}
		if time.Since(quiet) < oldTotals {
			return errors.New("the queue's total may be old")
		}
		return nil
	})
	if err == nil {
		err = d.system.rabbitmqctl(ctx, "delete_queue "+contract.BillingCharge.Name)
	}
	d.load.paused.Unlock()
	if err != nil {
		return err
	}
	return d.applyTopology(ctx)
}

// nobodyPays says what may be, or come, in billing.charge: orders that are being
// placed, or whose charges have not come to an end. A charge that the provider never
// answers ends in the dead letters.
func (d *run) nobodyPays(ctx context.Context) error {
	queues, err := d.system.queues(ctx)
	if err != nil {
		return err
	}
	orders, err := d.system.counts(ctx, "orders", `SELECT 'orders', count(*)::text FROM orders UNION ALL SELECT 'outbox', count(*)::text FROM outbox`)
	if err != nil {
		return err
	}
	payments, err := d.system.counts(ctx, "billing", `SELECT 'ended', count(*)::text FROM payments WHERE state <> 'pending'`)
	if err != nil {
		return err
	}
	d.mu.Lock()
	silent := len(d.silent)
	d.mu.Unlock()
	messages, customers := queues[contract.BillingCharge.Name], len(d.load.places)
	if messages+customers+orders["outbox"]+orders["orders"]-payments["ended"]-silent != 0 {
		return fmt.Errorf("%d messages, %d customers, %v and %v payments", messages, customers, orders, payments)
	}
	return nil
}

// applyTopology runs the container that does it once more.
func (d *run) applyTopology(ctx context.Context) error {
	err := poll(ctx, time.Minute, func() error { return d.system.one(ctx, "start --attach", "topology", 1) })
	// A queue that was declared a moment ago may lose what it confirmed when the
	// broker is killed (design, section 6).
	return errors.Join(err, wait(ctx, 3*time.Second))
}

// injectPoison puts a message that nobody can read into every queue that has dead letters.
func injectPoison(ctx context.Context, d *run) error {
	// As customers do, it stays away from a queue that is about to be deleted.
	d.load.paused.RLock()
	defer d.load.paused.RUnlock()
	for _, q := range topology.Queues {
		if q.DeadLetter == nil || q.DeadLetter.Exchange != contract.DeadLetters {
			continue
		}
		id, p := uuid.NewString(), poison{queue: q.Name, at: time.Since(d.started)}
		d.injected[id] = p
		// The broker may be away, by another fault: what is not confirmed is sent again.
		if err := poll(ctx, 3*time.Minute, func() error { return d.inject(ctx, q.Name, id) }); err != nil {
			return fmt.Errorf("poison for %s: %w", q.Name, err)
		}
		p.stored = true
		d.injected[id] = p
	}
	return nil
}

func (d *run) inject(ctx context.Context, queue, id string) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		MessageId: id, Type: contract.Charge.Name, ContentType: "application/json", DeliveryMode: amqp.Persistent, UserId: "admin", Body: []byte(`{"payment_id":`),
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stored, err := confirm.WaitContext(waiting)
	switch {
	case err != nil:
		return err
	case !stored:
		return errors.New("the broker refused it")
	case len(returned) > 0: // a return comes before the confirm
		return errors.New("there is no such queue")
	}
	return nil
}

// neverAnswer places an order whose charge the provider never answers, and waits until
// that is parked: the provider is not away, since it answers for the others.
func neverAnswer(ctx context.Context, d *run) error {
	const body = `{"customer_id":"silent","region":"eu","tier":"standard","payment_token":"tok_silent","items":[{"sku":"mug","quantity":1}]}`
	id := d.load.order(ctx, d.system.project+"-silent", body)
	if id == "" {
		return errors.New("its order was not taken")
	}
	d.mu.Lock()
	d.silent[id] = true
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 40*time.Minute) // attempts that end with the provider away do not count
	defer cancel()
	for {
		if err := wait(ctx, 5*time.Second); err != nil {
			return fmt.Errorf("order %s: its charge is not parked: %w", id, err)
		}
		dead := map[string][]deadLetter{}
		_ = d.readDead(contract.DeadQueue(contract.BillingCharge.Name), dead) // an error: the broker is away
		for _, letters := range dead {
			if letters[0].order == id {
				return nil
			}
		}
	}
}

// restartAll stops each replica as an operator would, and starts it again, before
// the next one goes.
func restartAll(ctx context.Context, d *run) error {
	for _, service := range services {
		for n := range replicas[service] {
			if err := d.restart(ctx, service, n+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *run) restart(ctx context.Context, service string, number int) error {
	container := fmt.Sprintf("%s-%s-%d", d.system.project, service, number)
	if err := d.system.one(ctx, "stop -t 45", service, number); err != nil {
		return err
	}
	how, err := d.system.script(ctx, "docker inspect --format '{{.State.ExitCode}}' "+container)
	if err != nil {
		return err
	}
	err = d.steps(ctx, d.one("start", service, number), func(ctx context.Context) error {
		return poll(ctx, time.Minute, func() error {
			_, err := d.system.script(ctx, fmt.Sprintf("docker exec %s /%s healthcheck", container, service))
			return err
		})
	})
	if err == nil && how == "137\n" {
		return finding{"stuck", container + " did not stop within 45 s and was killed"}
	}
	return err
}
