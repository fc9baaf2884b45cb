package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

// Injector is what faults act on, and what they have noted. Several may run at once.
type Injector struct {
	Stack     *stack.Stack
	Customers *load.Customers
	Progress  *load.Progress
	Source    ledger.Source
	Started   time.Time                        // the beginning of the run
	Say       func(format string, args ...any) // what happens now, for people

	mu         sync.Mutex
	poison     map[string]ledger.PoisonMessage // by message id
	unanswered map[string]bool                 // orders whose charge the provider never answers
	switches   map[string]string               // of the sandbox that are on
	notReady   []string
	findings   []ledger.Finding
	brokerUp   time.Duration
}

// Found notes what a fault has shown.
func (in *Injector) Found(kind, format string, args ...any) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.findings = append(in.findings, ledger.Finding{Kind: kind, What: fmt.Sprintf(format, args...)})
}

// Findings are what the faults have shown.
func (in *Injector) Findings() []ledger.Finding {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.findings)
}

// NotReady is what services said of why they were not ready.
func (in *Injector) NotReady() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.notReady)
}

// BrokerUp is when the broker was ready again last, since the beginning of the run.
func (in *Injector) BrokerUp() time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.brokerUp
}

// Known is what the books must know of customers and faults.
func (in *Injector) Known() ledger.Known {
	in.mu.Lock()
	defer in.mu.Unlock()
	return ledger.Known{
		Accepted: in.Customers.Accepted(), GaveUp: in.Customers.GaveUp(),
		Poison: maps.Clone(in.poison), Unanswered: maps.Clone(in.unanswered),
	}
}

// Clock is the time since the beginning of the run, for people.
func (in *Injector) Clock() string { return fmt.Sprintf("%4.0f s", time.Since(in.Started).Seconds()) }

// RepairAll repairs everything, whatever was broken.
func (in *Injector) RepairAll(ctx context.Context) (err error) {
	for range 3 {
		if err = in.steps(ctx, in.clearProxy, in.startAll, in.Stack.BrokerUp, in.resumeQueue, in.switchOff("provider.refuse"), in.switchAgain, in.admit("orders", true),
			in.rabbitmqctl("set_vm_memory_high_watermark 0.6"), in.rabbitmqctl("set_disk_free_limit 500MB"), in.applyTopology); err == nil {
			return nil
		}
	}
	return err
}

func (in *Injector) clearProxy(context.Context) error {
	if in.Stack.Proxy == nil {
		return nil
	}
	toxics, err := in.Stack.Proxy.Toxics()
	for _, t := range toxics {
		err = errors.Join(err, in.Stack.Proxy.RemoveToxic(t.Name))
	}
	return err
}

// startAll starts every container and puts it into the network.
func (in *Injector) startAll(ctx context.Context) error {
	_, _ = in.Stack.Script(ctx, "docker unpause $(docker ps -q --filter status=paused --filter label=com.docker.compose.project="+in.Stack.Project+")") // an error: none is paused
	for _, service := range slices.Concat(in.Stack.Nodes, []string{"postgres", "sandbox"}, stack.Services) {
		for number := range in.Stack.Replicas(service) {
			if err := in.Stack.DockerOne(ctx, "start", service, number+1); err != nil {
				return err
			}
			_ = in.Stack.DockerOne(ctx, "network connect --alias "+service+" "+in.Stack.Network(), service, number+1) // an error: it is connected
		}
	}
	return nil
}

// noteNotReady notes what a service says of why it is not ready.
func (in *Injector) noteNotReady(service, line string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.notReady = append(in.notReady, fmt.Sprintf("%s: %s was not ready: `%s`", strings.TrimSpace(in.Clock()), service, strings.TrimSpace(line)))
}
