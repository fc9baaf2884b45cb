package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/stack"
)

// The broker goes away and comes back.
var (
	BrokerKilled = Fault{Name: "broker killed", Takes: 10 * time.Second, BrokerAway: true, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.kill("rabbitmq"), in.brokerBack)
	}}
	BrokerStopped = Fault{Name: "broker stopped for 30 s, deadlines fall due", Takes: 56 * time.Second, run: deadlinesPass}
	BrokerFrozen  = Fault{Name: "broker frozen for 20 s", Takes: 21 * time.Second, BrokerAway: true, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.freeze("rabbitmq"), wait(20*time.Second), in.docker("unpause", "rabbitmq"), in.brokerBack)
	}}
	// It is felt when both services log the loss.
	ConnectionsClosed = Fault{Name: "all connections closed", Takes: 4 * time.Second, run: func(ctx context.Context, in *Injector) error {
		since := time.Now()
		return in.steps(ctx, in.rabbitmqctl("close_all_connections chaos"), in.logs("orders", "connection lost", since), in.logs("billing", "connection lost", since))
	}}
)

// The broker takes no messages, by its limits, or ends a consumer or a queue.
var (
	MemoryAlarm = Fault{Name: "memory alarm for 10 s", Takes: 15 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.rabbitmqctl("set_vm_memory_high_watermark 0.0000001"), in.alarmed, wait(10*time.Second), in.rabbitmqctl("set_vm_memory_high_watermark 0.6"))
	}}
	DiskAlarm = Fault{Name: "disk alarm for 10 s", Takes: 17 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.rabbitmqctl("set_disk_free_limit 100000GB"), in.alarmed, wait(10*time.Second), in.rabbitmqctl("set_disk_free_limit 500MB"))
	}}
	ConsumerTimeout = Fault{Name: "consumer timeout of billing.charge", Takes: 6 * time.Second, run: timeOut}
	// A charge that the provider never answers is in the queue for minutes.
	QueueDeleted = Fault{Name: "queue deleted under its consumers", Takes: 18 * time.Second, Last: true, run: deleteQueue}
)

// deadlinesPass stops billing, so that orders stay unpaid, and then the broker until these
// orders are past their deadlines. They must be cancelled because of that before billing
// comes back and charges them, late.
func deadlinesPass(ctx context.Context, in *Injector) error {
	if err := in.steps(ctx, in.docker("stop -t 45", "billing"), wait(5*time.Second)); err != nil {
		return err
	}
	// Of those that are older than a second the deadlines have left the outbox.
	before := ` AND created_at < '` + time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano) + `'`
	n, err := in.unpaid(ctx, before)
	if err == nil && n == 0 {
		err = errors.New("no order waits for its deadline")
	}
	if err != nil {
		return err
	}
	err = in.steps(ctx, in.docker("stop -t 60", "rabbitmq"), wait(PaymentDeadline), in.docker("start", "rabbitmq"), in.Stack.BrokerUp)
	if err != nil {
		return err
	}
	err = stack.Poll(ctx, time.Minute, func() error {
		n, err := in.unpaid(ctx, before)
		if err == nil && n > 0 {
			err = fmt.Errorf("orders are neither paid nor cancelled: %d", n)
		}
		return err
	})
	if err != nil {
		return err
	}
	return in.docker("start", "billing")(ctx)
}

// alarmed waits until the broker has an alarm.
func (in *Injector) alarmed(ctx context.Context) error {
	return stack.Poll(ctx, 10*time.Second, func() error {
		err := in.Stack.Management(ctx, http.MethodGet, "/api/health/checks/alarms", nil, nil)
		if err == nil {
			return errors.New("the broker has no alarm")
		}
		if !strings.Contains(err.Error(), http.StatusText(http.StatusServiceUnavailable)) {
			return err
		}
		return nil
	})
}

// timeOut gives billing.charge a consumer timeout of 1 s while the provider is frozen, and
// waits until billing logs that it was cancelled. A policy does not reach consumers that are
// there already (measured with RabbitMQ 4.3.6), so billing has to subscribe anew, before
// and after.
func timeOut(ctx context.Context, in *Injector) error {
	path := "/api/policies/%2F/" + contract.BillingCharge.Name
	var policy map[string]any
	if err := in.Stack.Management(ctx, http.MethodGet, path, nil, &policy); err != nil {
		return err
	}
	changed := maps.Clone(policy["definition"].(map[string]any))
	changed["consumer-timeout"] = 1000
	put := func(definition any) step {
		return func(ctx context.Context) error {
			return in.Stack.Management(ctx, http.MethodPut, path, map[string]any{
				"pattern": policy["pattern"], "definition": definition, "priority": policy["priority"], "apply-to": policy["apply-to"],
			}, nil)
		}
	}
	subscribe := in.rabbitmqctl("close_all_user_connections " + contract.BillingUser + " chaos")
	err := in.steps(ctx, put(changed), subscribe, in.freeze("sandbox"),
		in.logs("billing", "cancelled by the broker", time.Now()), in.docker("unpause", "sandbox"))
	return errors.Join(err, in.steps(context.WithoutCancel(ctx), put(policy["definition"]), subscribe))
}

// deleteQueue lets no customers come until every order is charged and billing.charge is
// empty, deletes the queue, lets customers come again, and then applies the topology.
func deleteQueue(ctx context.Context, in *Injector) error {
	resume := in.Customers.Pause()
	var emptySince time.Time
	err := stack.Poll(ctx, 4*time.Minute, func() error {
		err := in.everyOrderIsCharged(ctx)
		if err != nil {
			emptySince = time.Time{}
			return err
		}
		if emptySince.IsZero() {
			emptySince = time.Now()
		}
		if time.Since(emptySince) < stack.TotalsAge {
			return errors.New("the queue's total may be old")
		}
		return nil
	})
	if err == nil {
		err = in.Stack.Rabbitmqctl(ctx, "delete_queue "+contract.BillingCharge.Name)
	}
	resume()
	if err != nil {
		return err
	}
	return in.applyTopology(ctx)
}

// everyOrderIsCharged gives an error while a message is in billing.charge or may come
// there: an order is being placed, or its charge has not come to an end. A charge that the
// provider never answers ends in the dead-letter queue.
func (in *Injector) everyOrderIsCharged(ctx context.Context) error {
	queues, err := in.Source.Depths(ctx)
	if err != nil {
		return err
	}
	orders, err := in.Source.Counts(ctx, "orders", `SELECT 'orders', count(*)::text FROM orders UNION ALL SELECT 'outbox', count(*)::text FROM outbox`)
	if err != nil {
		return err
	}
	payments, err := in.Source.Counts(ctx, "billing", `SELECT 'ended', count(*)::text FROM payments WHERE state <> 'pending'`)
	if err != nil {
		return err
	}
	in.mu.Lock()
	unanswered := len(in.unanswered)
	in.mu.Unlock()
	messages, customers := queues[contract.BillingCharge.Name], in.Customers.There()
	if messages+customers+orders["outbox"]+orders["orders"]-payments["ended"]-unanswered != 0 {
		return fmt.Errorf("%d messages, %d customers, %v and %v payments", messages, customers, orders, payments)
	}
	return nil
}

// applyTopology starts the container that does it once more.
func (in *Injector) applyTopology(ctx context.Context) error {
	err := stack.Poll(ctx, time.Minute, func() error { return in.Stack.DockerOne(ctx, "start --attach", "topology", 1) })
	// A queue that was declared a moment ago may lose what it confirmed when the
	// broker is killed (design, section 6).
	return errors.Join(err, stack.Wait(ctx, 3*time.Second))
}
