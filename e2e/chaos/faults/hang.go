package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/tools/orderctl/ledger"
)

// hangs is for how long a queue hangs: longer than the broker itself waits for one, 65 s.
const hangs = 90 * time.Second

// A queue hangs: it neither answers nor refuses. All that does not need it must go on.
var (
	// Mails wait. With the connections closed, whoever consumes from the queue or publishes
	// to it has to ask it again.
	MailsHang = Fault{Name: "notifier.email hangs for 90 s, all connections closed", Takes: hangs + 40*time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.hang(ctx, contract.NotifierEmail.Name, 1, in.rabbitmqctl("close_all_connections chaos"))
	}}
	// One order in four has its events there.
	ShardHangs = Fault{Name: "a shard of orders.payments hangs for 90 s", Takes: hangs + 40*time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.hang(ctx, contract.PaymentShards[0].Name, 0.75, wait(0))
	}}
)

// hang suspends the leader of a queue, as on a node that hangs. share is the part of the
// orders that must come to their end meanwhile.
func (in *Injector) hang(ctx context.Context, queue string, share float64, meanwhile step) error {
	began := time.Since(in.Started)
	err := in.steps(ctx, in.suspendQueue(queue), wait(10*time.Second), meanwhile, wait(hangs-10*time.Second))
	over := time.Since(in.Started)
	if err = errors.Join(err, in.resumeQueue(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	effect := load.Measure(in.Progress.Samples(), began, over, over)
	if err := in.caughtUp(ctx); err != nil {
		return err
	}
	if effect.Pause > 2*load.RecoverWithin || float64(effect.Ended) < 0.9*share*float64(effect.Accepted) {
		return ledger.Finding{Kind: ledger.Slow, What: fmt.Sprintf("beside the queue %d orders of %d came to their end, with a pause of %.1f s", effect.Ended, effect.Accepted, effect.Pause.Seconds())}
	}
	return nil
}

// suspendQueue suspends the leader of a queue until resumeQueue. The process that suspends
// it must live as long: when it ends, the leader goes on.
func (in *Injector) suspendQueue(queue string) step {
	return func(ctx context.Context) error {
		return in.Stack.Rabbitmqctl(ctx, fmt.Sprintf(`eval '
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

// resumeQueue lets the queue go on that is suspended, if there is one.
func (in *Injector) resumeQueue(ctx context.Context) error {
	return in.Stack.Rabbitmqctl(ctx, `eval 'catch (chaos ! resume).'`)
}
