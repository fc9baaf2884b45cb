package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"example.com/orderflow/e2e/internal/machine"
)

const (
	// paymentDeadline is short enough to pass during some faults.
	paymentDeadline = 30 * time.Second
	// settleTime is how long the last order may take after the last fault: a payment
	// deadline, and the longest delays of retries.
	settleTime = 5 * time.Minute
)

// run is one drill while it goes on.
type run struct {
	system     *system
	load       *load
	started    time.Time
	injected   map[string]poison // by message id
	silent     map[string]bool   // orders whose charge the provider never answers
	switches   map[string]string // of the sandbox that are on
	findings   []finding         // of strikes
	heard      []string          // what services said of why they were not ready
	brokerCame time.Duration     // when the broker was ready again last
	loaded     time.Duration     // when the last customer came

	mu      sync.Mutex
	samples []sampled
}

// sampled is how far the orders were at a time.
type sampled struct {
	At       time.Duration
	Accepted int
	Ended    int // by payment or refusal; customers cancel whatever is broken
	Moving   int
}

// drill brings a system up, breaks it by the script, and reads the books. It gives
// a report whatever the strikes have done to the system.
func drill(ctx context.Context, c settings, script []strike) (report *report, err error) {
	unlock, err := machine.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	say("seed %d: bringing up a system for the drill (2 to 5 min the first time)", c.seed)
	s, err := start(ctx, c.cluster)
	if s != nil && !c.keep {
		defer func() { err = errors.Join(err, s.stop(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return nil, err
	}
	d := &run{system: s, load: newLoad(s), injected: map[string]poison{}, silent: map[string]bool{}, switches: map[string]string{}, started: time.Now()}
	patience, giveUp := context.WithTimeout(ctx, c.duration+settleTime)
	defer giveUp()
	loading, stopLoad := context.WithCancel(ctx)
	sampling, stopSampling := context.WithCancel(ctx)
	var background, placing sync.WaitGroup
	placing.Go(func() { d.load.place(loading, patience, c.rate) })
	background.Go(func() { d.sample(sampling) })
	strikes := d.follow(ctx, script, c.duration)
	// After the last strike too, there are orders to show that work goes on.
	_ = wait(ctx, max(time.Until(d.started.Add(c.duration)), breath))
	stopLoad()
	d.loaded = time.Since(d.started)
	say("%s: no more orders; waiting for the last ones to end", d.clock())
	placing.Wait() // from here on nobody new comes
	d.load.run.Wait()
	books, err := d.settle(ctx)
	stopSampling()
	background.Wait()
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	report = d.report(ctx, c, strikes, books, err)
	if c.proof != nil {
		err = c.proof(ctx, d)
	}
	return report, err
}

// sample notes progress four times a second.
func (d *run) sample(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := d.progress(ctx)
		if err != nil {
			continue // the database is away
		}
		d.mu.Lock()
		d.samples = append(d.samples, sampled{time.Since(d.started), len(d.load.accepted()), now["ended"], now["moving"]})
		d.mu.Unlock()
	}
}

// progress asks the database, which may hang.
func (d *run) progress(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return d.system.counts(ctx, "orders", `SELECT 'ended', count(*) FILTER (WHERE status NOT IN ('placed', 'cancelled'))::text FROM orders
			UNION ALL SELECT 'moving', count(*)::text FROM orders WHERE status = 'placed' OR refund_open`)
}

// settle waits until nothing moves any more, and gives the books at that time.
func (d *run) settle(ctx context.Context) (books, error) {
	deadline := time.Now().Add(settleTime)
	var still time.Time // since when nothing moves
	for {
		b, err := d.read(ctx)
		switch {
		case err != nil || b.moving() > 0:
			still = time.Time{}
		case still.IsZero():
			still = time.Now()
		}
		over := time.Now().After(deadline)
		if over && err != nil {
			return b, err
		}
		if over || !still.IsZero() && time.Since(still) > oldTotals {
			return b, d.readMessages(ctx, &b)
		}
		if err := wait(ctx, 2*time.Second); err != nil {
			return b, err
		}
	}
}

func (d *run) clock() string { return fmt.Sprintf("%4.0f s", time.Since(d.started).Seconds()) }

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", args...) }
