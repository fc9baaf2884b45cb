package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/e2e/internal/stack"
)

// outage is longer than the 21 attempts of a work queue, 3.5 min, and than a shard's,
// 75 s.
const outage = 6 * time.Minute

// These go on for longer than any number of attempts: no message may be parked because of
// them, and all of them are handled afterwards. Each is felt when a service says that it is
// not ready because of it.
var (
	DatabaseAway = Fault{Name: "PostgreSQL away for 6 min", Takes: outage + 40*time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.outage(ctx, in.freeze("postgres"), "orders", "database", in.docker("unpause", "postgres"))
	}}
	ProviderRefuses = Fault{Name: "provider refuses with 401 for 6 min", Takes: outage + 2*time.Minute, run: func(ctx context.Context, in *Injector) error {
		return in.outage(ctx, in.switchOn("provider.refuse", "401"), "billing", "401", in.switchOff("provider.refuse"))
	}}
	MailAway = Fault{Name: "SMTP away for 6 min", Takes: outage + time.Minute, Beside: true, run: func(ctx context.Context, in *Injector) error {
		return in.outage(ctx, in.switchOn("mail.down", ""), "notifier", "notifier.email", in.switchOff("mail.down"))
	}}
	// Charges are handled meanwhile: payments are captured whose events orders cannot
	// handle, and the deadlines of their orders pass.
	OrdersClosed = Fault{Name: "orders' database closed for 6 min while charges come in", Takes: outage + time.Minute, run: func(ctx context.Context, in *Injector) error {
		begin := func(ctx context.Context) error {
			return in.steps(ctx, in.docker("stop -t 45", "billing"), in.manyUnpaid, in.admit("orders", false), in.docker("start", "billing"))
		}
		return in.outage(ctx, begin, "orders", "database", in.admit("orders", true))
	}}
)

// outage begins something, waits until a service says that it is not ready and why, lets
// the time pass, ends it, and waits until everything has caught up.
func (in *Injector) outage(ctx context.Context, begin step, service, why string, end step) error {
	err := in.steps(ctx, begin, in.saysNotReady(service, why), wait(outage), in.saysNotReady(service, why))
	return errors.Join(err, in.steps(context.WithoutCancel(ctx), end), in.steps(ctx, in.caughtUp))
}

// manyUnpaid waits until 60 orders wait for their payment.
func (in *Injector) manyUnpaid(ctx context.Context) error {
	return stack.Poll(ctx, time.Minute, func() error {
		n, err := in.unpaid(ctx, "")
		if err == nil && n < 60 {
			err = fmt.Errorf("only %d orders wait for their payment", n)
		}
		return err
	})
}
