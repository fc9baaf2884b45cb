package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

// Services are killed, frozen or stopped, and started again.
var (
	OrdersKilled   = killed("orders", 4*time.Second)
	BillingKilled  = killed("billing", 4*time.Second)
	NotifierKilled = killed("notifier", 4*time.Second)
	PricingKilled  = killed("pricing-rpc", 3*time.Second)
	BillingFrozen  = Fault{Name: "a billing replica frozen for 25 s", Takes: 26 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.dockerOne("pause", "billing", 1), wait(25*time.Second), in.dockerOne("unpause", "billing", 1))
	}}
	PricingAway = Fault{Name: "pricing away for 30 s", Takes: 32 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.docker("stop -t 45", "pricing-rpc"), wait(30*time.Second), in.docker("start", "pricing-rpc"))
	}}
	RollingRestart = Fault{Name: "rolling restart", Takes: 18 * time.Second, run: restartAll}
	// It is felt when a new process logs that it has a message again.
	KilledAfterCommit = Fault{Name: "billing killed between commit and ack", Takes: 6 * time.Second, run: killAfterCommit}
)

func killed(service string, takes time.Duration) Fault {
	return Fault{Name: service + " killed", Takes: takes, run: func(ctx context.Context, in *Injector) error { return in.kill(service)(ctx) }}
}

// killAfterCommit lets billing receive from the broker and send nothing to it, for as long
// as it takes to commit what it has received. These messages come again to a new process,
// which recognises them.
func killAfterCommit(ctx context.Context, in *Injector) error {
	toxic, err := in.Stack.Proxy.AddToxic("mute", "timeout", "upstream", 1, toxiproxy.Attributes{"timeout": 0})
	if err != nil {
		return err
	}
	err = in.steps(ctx, wait(2*time.Second), in.dockerEach("kill -s KILL", "billing"))
	since := time.Now()
	err = errors.Join(err, in.Stack.Proxy.RemoveToxic(toxic.Name), in.dockerEach("start", "billing")(ctx))
	if err != nil {
		return err
	}
	return in.logs("billing", "settled already", since)(ctx)
}

// restartAll stops each replica as an operator would, and starts it again, before the next
// one is stopped.
func restartAll(ctx context.Context, in *Injector) error {
	for _, service := range stack.Services {
		for n := range in.Stack.Replicas(service) {
			if err := in.restart(ctx, service, n+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *Injector) restart(ctx context.Context, service string, number int) error {
	container := in.Stack.Container(service, number)
	if err := in.Stack.DockerOne(ctx, "stop -t 45", service, number); err != nil {
		return err
	}
	exitCode, err := in.Stack.Script(ctx, "docker inspect --format '{{.State.ExitCode}}' "+container)
	if err != nil {
		return err
	}
	err = in.steps(ctx, in.dockerOne("start", service, number), func(ctx context.Context) error {
		return stack.Poll(ctx, time.Minute, func() error {
			_, err := in.Stack.Script(ctx, fmt.Sprintf("docker exec %s /%s healthcheck", container, service))
			return err
		})
	})
	if err == nil && exitCode == "137\n" {
		return ledger.Finding{Kind: ledger.Stuck, What: container + " did not stop within 45 s and was killed"}
	}
	return err
}
