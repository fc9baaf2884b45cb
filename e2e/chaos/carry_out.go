package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/orderflow/e2e/chaos/faults"
	"example.com/orderflow/e2e/chaos/report"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

// lateAlone and lateTogether are how long after the end a fault may go on: a slow machine
// gets time for every fault alone, and fewer at once.
const (
	lateAlone    = 3 * time.Minute
	lateTogether = 30 * time.Second
)

// carryOut carries a script out. It leaves out what would go on for too long after the
// end because the lines before took longer than they should.
func (d *drill) carryOut(ctx context.Context, script []line, end time.Duration) []report.Outcome {
	var outcomes []*report.Outcome
	var beside sync.WaitGroup
	for _, l := range script {
		if len(outcomes) > 0 && stack.Wait(ctx, leastGap) != nil || stack.Wait(ctx, time.Until(d.started.Add(l.at))) != nil {
			break
		}
		switch {
		case l.beside():
			o := d.newOutcome(l)
			o.Repaired = o.At
			outcomes = append(outcomes, o)
			beside.Go(func() { d.injectBeside(ctx, l.faults[0], o) })
		case d.noTime(l, end):
		default:
			outcomes = append(outcomes, d.injectTwice(ctx, l)...)
		}
	}
	beside.Wait()
	var out []report.Outcome
	for _, o := range outcomes {
		out = append(out, *o)
	}
	return out
}

func (d *drill) newOutcome(l line) *report.Outcome {
	return &report.Outcome{
		Fault: l.name(), Alone: l.alone(), At: time.Since(d.started),
		Beside: l.beside(), BrokerAway: l.alone() && l.faults[0].BrokerAway,
	}
}

// noTime says that a line would go on for too long after the end.
func (d *drill) noTime(l line, end time.Duration) bool {
	latest := end + lateTogether
	if l.alone() {
		latest = end + lateAlone
	}
	if time.Since(d.started)+l.takes() <= latest {
		return false
	}
	say("%s: no time is left for: %s", d.injector.Clock(), l.name())
	if l.alone() {
		d.injector.Found(ledger.Drill, "%s: no time was left for it", l.name())
	}
	return true
}

// injectTwice injects a line's faults, and a fault alone once more when it did not work:
// once may be chance, twice is a finding.
func (d *drill) injectTwice(ctx context.Context, l line) []*report.Outcome {
	first, err := d.inject(ctx, l)
	if err == nil || !l.alone() || ctx.Err() != nil {
		return []*report.Outcome{first}
	}
	_ = stack.Wait(ctx, leastGap)
	second, err := d.inject(ctx, l)
	if err != nil {
		d.injector.Found(ledger.Drill, "%s did not work: %v", l.name(), err)
	}
	return []*report.Outcome{first, second}
}

// injectBeside lets a fault go on while there are others.
func (d *drill) injectBeside(ctx context.Context, f faults.Fault, o *report.Outcome) {
	say("%s: %s, beside the others", d.injector.Clock(), f.Name)
	err := f.Run(ctx, d.injector)
	o.Took = time.Since(d.started) - o.At
	if err != nil && ctx.Err() == nil {
		o.Trouble = err.Error()
		d.injector.Found(ledger.Drill, "%s did not work: %v", f.Name, err)
	}
}

// inject injects faults, and repairs everything when one did not work. Two may be in each
// other's way: a command in a container that is paused.
func (d *drill) inject(ctx context.Context, l line) (*report.Outcome, error) {
	o := d.newOutcome(l)
	say("%s: %s (%d orders accepted)", d.injector.Clock(), o.Fault, len(d.customers.Accepted()))
	// All begin now. What they need of the same container is repaired by the last.
	errs := make([]error, len(l.faults))
	var running sync.WaitGroup
	for i, f := range l.faults {
		running.Go(func() { errs[i] = f.Run(ctx, d.injector) })
	}
	running.Wait()
	o.Took = time.Since(d.started) - o.At
	o.Repaired = o.At + o.Took
	if up := d.injector.BrokerUp(); o.Alone && up > o.At {
		o.Repaired = up
	}
	err := errors.Join(errs...)
	var wrong ledger.Finding
	switch {
	case o.Alone && errors.As(err, &wrong): // it worked, and has shown something
		d.injector.Found(wrong.Kind, "%s: %s", o.Fault, wrong.What)
		err = nil
	case err != nil:
		o.Trouble = err.Error()
		say("%s: %v", d.injector.Clock(), err)
		if err := d.injector.RepairAll(ctx); err != nil {
			d.injector.Found(ledger.Drill, "%s could not be repaired: %v", o.Fault, err)
		}
		o.Repaired = time.Since(d.started)
	}
	return o, err
}
