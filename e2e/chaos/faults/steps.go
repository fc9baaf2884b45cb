package faults

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

// What several faults consist of.

type step func(ctx context.Context) error

// steps does one step after the other, until one fails.
func (in *Injector) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return err
		}
	}
	return nil
}

func wait(d time.Duration) step {
	return func(ctx context.Context) error { return stack.Wait(ctx, d) }
}

// kill ends every replica of a service with SIGKILL and starts them again.
func (in *Injector) kill(service string) step {
	return func(ctx context.Context) error {
		return in.steps(ctx, in.docker("kill -s KILL", service), in.docker("start", service))
	}
}

// docker runs a docker command on all replicas of a service at once.
func (in *Injector) docker(command, service string) step {
	return func(ctx context.Context) error { return in.Stack.Docker(ctx, command, service) }
}

// dockerEach runs a docker command on one replica after the other.
func (in *Injector) dockerEach(command, service string) step {
	return func(ctx context.Context) error {
		for n := range in.Stack.Replicas(service) {
			if err := in.Stack.DockerOne(ctx, command, service, n+1); err != nil {
				return err
			}
		}
		return nil
	}
}

// dockerOne runs a docker command on one replica.
func (in *Injector) dockerOne(command, service string, number int) step {
	return func(ctx context.Context) error { return in.Stack.DockerOne(ctx, command, service, number) }
}

// freeze pauses the one container of a service. The kernel gives up when processes begin
// faster than it can freeze them.
func (in *Injector) freeze(service string) step {
	return func(ctx context.Context) error {
		return stack.Poll(ctx, 20*time.Second, func() error { return in.Stack.Docker(ctx, "pause", service) })
	}
}

func (in *Injector) rabbitmqctl(arguments string) step {
	return func(ctx context.Context) error { return in.Stack.Rabbitmqctl(ctx, arguments) }
}

// brokerBack waits until the broker is ready. Work must go on from then.
func (in *Injector) brokerBack(ctx context.Context) error {
	err := in.Stack.BrokerUp(ctx)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.brokerUp = time.Since(in.Started)
	return err
}

// logs waits until a service has logged a text since a time: it has felt the fault.
func (in *Injector) logs(service, text string, since time.Time) step {
	return func(ctx context.Context) error {
		return stack.Poll(ctx, 20*time.Second, func() error {
			_, err := in.Stack.Logs(ctx, service, "--since "+since.UTC().Format(time.RFC3339Nano), "grep -q '"+text+"'")
			if err != nil {
				err = fmt.Errorf("%s does not log %q", service, text)
			}
			return err
		})
	}
}

// saysNotReady waits until a replica of a service says that it is not ready, and why. That it
// does not say so is a finding and no error: the fault goes on.
func (in *Injector) saysNotReady(service, why string) step {
	return func(ctx context.Context) error {
		err := stack.Poll(ctx, 90*time.Second, func() error {
			answers, err := in.Stack.Readiness(ctx, service)
			if err != nil {
				return err
			}
			for _, line := range strings.Split(answers, "\n") {
				if strings.Contains(line, why) {
					in.noteNotReady(service, line)
					return nil
				}
			}
			return fmt.Errorf("%s does not say that %q keeps it from being ready: %s", service, why, answers)
		})
		if err != nil && ctx.Err() == nil {
			in.Found(ledger.Wrong, "%v", err)
			return nil
		}
		return err
	}
}

// caughtUp waits until at most 100 messages wait, which are those that came a moment ago.
func (in *Injector) caughtUp(ctx context.Context) error {
	return stack.Poll(ctx, 10*time.Minute, func() error {
		waiting, err := in.Source.Waiting(ctx)
		if err != nil {
			return err
		}
		delete(waiting, contract.OrdersPaymentDeadline(PaymentDeadline).Name) // where they wait by design
		if n := ledger.Sum(waiting); n > 100 {
			return fmt.Errorf("%d messages wait: %v", n, waiting)
		}
		return nil
	})
}

// unpaid is how many orders wait for their payment, of those that a condition holds for.
func (in *Injector) unpaid(ctx context.Context, condition string) (int, error) {
	now, err := in.Source.Counts(ctx, "orders", `SELECT 'unpaid', count(*)::text FROM orders WHERE status = 'placed'`+condition)
	return now["unpaid"], err
}
