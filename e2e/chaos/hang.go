package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/contract"
)

// hangs is for how long a queue hangs: longer than the broker itself waits for one, 65 s.
const hangs = 90 * time.Second

var (
	// Mails wait, and nobody else may. With the connections closed, whoever consumes from
	// the queue or publishes to it has to ask it again.
	mailsHang = fault{"notifier.email hangs for 90 s, all connections closed", hangs + 40*time.Second, func(ctx context.Context, d *run) error {
		return d.hang(ctx, contract.NotifierEmail.Name, 1, d.ctl("close_all_connections chaos"))
	}}
	// One order in four has its events there.
	shardHangs = fault{"a shard of orders.payments hangs for 90 s", hangs + 40*time.Second, func(ctx context.Context, d *run) error {
		return d.hang(ctx, contract.PaymentShards[0].Name, 0.75, pause(0))
	}}
)

// hang suspends the leader of a queue, as a node that hangs does: it neither answers nor
// refuses. share is the part of the orders that must come to their end meanwhile.
func (d *run) hang(ctx context.Context, queue string, share float64, meanwhile step) error {
	began := time.Since(d.started)
	err := d.steps(ctx, d.suspend(queue), pause(10*time.Second), meanwhile, pause(hangs-10*time.Second))
	over := time.Since(d.started)
	if err = errors.Join(err, d.resume(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	d.mu.Lock()
	it := struck{At: began, Mended: over}.measure(d.samples, over)
	d.mu.Unlock()
	if err := d.caughtUp(ctx); err != nil {
		return err
	}
	if it.Pause > 2*goesOn || float64(it.Ended) < 0.9*share*float64(it.Accepted) {
		return finding{"slow", fmt.Sprintf("beside the queue %d orders of %d came to their end, with a pause of %.1f s", it.Ended, it.Accepted, it.Pause.Seconds())}
	}
	return nil
}

// suspend suspends the leader of a queue until resume. A suspended process goes on when
// the one that suspended it is gone.
func (d *run) suspend(queue string) step {
	return func(ctx context.Context) error {
		return d.system.rabbitmqctl(ctx, fmt.Sprintf(`eval '
			{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
			{Leader, _} = amqqueue:get_pid(Q),
			Self = self(),
			spawn(fun() ->
				register(chaos, self()),
				true = erlang:suspend_process(whereis(Leader)),
				Self ! suspended,
				receive resume -> ok end
			end),
			receive suspended -> ok after 10000 -> exit(not_suspended) end.'`, queue))
	}
}

// resume lets it go on; none may be suspended.
func (d *run) resume(ctx context.Context) error {
	return d.system.rabbitmqctl(ctx, `eval 'catch (chaos ! resume).'`)
}
