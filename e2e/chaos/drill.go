package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"example.com/orderflow/e2e/chaos/faults"
	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/e2e/chaos/report"
	"example.com/orderflow/e2e/internal/machine"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

const (
	// settleTime is how long the last order may take after the last fault: a payment
	// deadline, and the longest delays of retries.
	settleTime = 5 * time.Minute
	// replicas is how often each service runs.
	replicas = 3
)

// drill is one run while it goes on.
type drill struct {
	stack     *stack.Stack
	customers *load.Customers
	progress  *load.Progress
	source    ledger.Source
	injector  *faults.Injector
	started   time.Time
}

// run brings a system up, breaks it by the script, and reads the books. It gives a report
// whatever the faults have done to the system.
func run(ctx context.Context, c settings, script []line) (r *report.Report, err error) {
	unlock, err := machine.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	say("seed %d: bringing up a system for the drill (2 to 5 min the first time)", c.seed)
	s, err := newStack(c.cluster)
	if err != nil {
		return nil, err
	}
	if !c.keep {
		defer func() { err = errors.Join(err, s.Stop(context.WithoutCancel(ctx))) }()
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if err := s.ReadPasswords(ctx); err != nil {
		return nil, err
	}
	d := newDrill(s)
	r, err = d.follow(ctx, c, script)
	if err == nil && c.inspect != nil {
		err = c.inspect(ctx, d)
	}
	return r, err
}

func newStack(cluster bool) (*stack.Stack, error) {
	options := stack.Options{Replicas: replicas, Proxy: true, Settings: map[string]string{"PAYMENT_DEADLINE": faults.PaymentDeadline.String()}}
	if cluster {
		options.With, options.Proxy = "cluster", false
	}
	return stack.New(options)
}

// newDrill begins a run on a stack that is up.
func newDrill(s *stack.Stack) *drill {
	d := &drill{
		stack: s, started: time.Now(),
		customers: load.NewCustomers(s.Orders, s.HTTP, s.Project),
		source:    ledger.Source{Database: s.ReadDatabase, Broker: s.DialBroker, Messages: s.Messages, Topology: faults.Topology},
	}
	d.progress = load.NewProgress(d.started)
	d.injector = &faults.Injector{Stack: s, Customers: d.customers, Progress: d.progress, Source: d.source, Started: d.started, Say: say}
	return d
}

// follow lets customers come while the script is carried out, waits until their orders have
// come to their end, and reads the books.
func (d *drill) follow(ctx context.Context, c settings, script []line) (*report.Report, error) {
	giveUp, cancel := context.WithTimeout(ctx, c.duration+settleTime)
	defer cancel()
	coming, stopComing := context.WithCancel(ctx)
	defer stopComing()
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	var background, placing sync.WaitGroup
	placing.Go(func() { d.customers.Place(coming, giveUp, c.rate) })
	background.Go(func() { d.progress.Run(sampling, d.customers.Accepted, d.count) })
	outcomes := d.carryOut(ctx, script, c.duration)
	// After the last fault too, there are orders to show that work goes on.
	_ = stack.Wait(ctx, max(time.Until(d.started.Add(c.duration)), leastGap))
	stopComing()
	loadEnded := time.Since(d.started)
	say("%s: no more orders; waiting for the last ones to end", d.injector.Clock())
	placing.Wait() // from here on nobody new comes
	d.customers.Wait()
	books, err := d.settle(ctx)
	stopSampling()
	background.Wait()
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	absorbed, absorbedErr := d.absorbed(ctx)
	return report.New(report.Run{
		Seed: c.seed, Duration: c.duration, Rate: c.rate, Faults: len(c.faults()), Cluster: c.cluster,
		Started: d.started, LoadEnded: loadEnded, Outcomes: outcomes, Samples: d.progress.Samples(),
		Findings: d.injector.Findings(), NotReady: d.injector.NotReady(),
		Books: books, BooksErr: err, Absorbed: absorbed, AbsorbedErr: absorbedErr,
		Retries: d.customers.Retries(), Unexpected: d.customers.Unexpected(),
	}), nil
}

// count asks the database how far the orders are. It may hang.
func (d *drill) count(ctx context.Context) (ended, moving int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// Customers cancel whatever is broken: that shows nothing.
	counts, err := d.source.Counts(ctx, "orders", `SELECT 'ended', count(*) FILTER (WHERE status NOT IN ('placed', 'cancelled'))::text FROM orders
			UNION ALL SELECT 'moving', count(*)::text FROM orders WHERE status = 'placed' OR refund_open`)
	return counts["ended"], counts["moving"], err
}

// settle waits until nothing moves any more, and gives the books at that time.
func (d *drill) settle(ctx context.Context) (ledger.Books, error) {
	deadline := time.Now().Add(settleTime)
	var still time.Time // since when nothing moves
	for {
		b, err := d.source.Read(ctx, d.injector.Known())
		switch {
		case err != nil || b.Moving() > 0:
			still = time.Time{}
		case still.IsZero():
			still = time.Now()
		}
		over := time.Now().After(deadline)
		if over && err != nil {
			return b, err
		}
		if over || !still.IsZero() && time.Since(still) > stack.TotalsAge {
			return b, d.readMessages(ctx, &b)
		}
		if err := stack.Wait(ctx, 2*time.Second); err != nil {
			return b, err
		}
	}
}

// readMessages reads the dead letters, whatever the totals say, and the audit stream.
func (d *drill) readMessages(ctx context.Context, b *ledger.Books) error {
	return stack.Poll(ctx, 2*time.Minute, func() error { return d.source.ReadMessages(ctx, b) })
}

// absorbed are the times at which services logged that a message had no effect: it came
// again, or was overtaken. A deadline that passes after the payment always is.
func (d *drill) absorbed(ctx context.Context) (times []time.Time, err error) {
	for _, service := range []string{"orders", "billing", "notifier"} {
		out, err := d.stack.Logs(ctx, service, "--timestamps",
			`grep -E 'settled already|"first":false|"already sent"|event changed nothing' | grep -v 'payment deadline passed' | cut -d ' ' -f 1`)
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Fields(out) {
			at, err := time.Parse(time.RFC3339Nano, line)
			if err != nil {
				return nil, fmt.Errorf("read the logs: %w", err)
			}
			times = append(times, at)
		}
	}
	return times, nil
}
