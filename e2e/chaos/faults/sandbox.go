package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/stack"
)

// The payment provider, which the sandbox plays, is away or late, or leaves a charge
// without an answer.
var (
	ProviderDown = Fault{Name: "provider down for 30 s", Takes: 32 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.docker("stop -t 45", "sandbox"), wait(30*time.Second), in.docker("start", "sandbox"), in.switchAgain)
	}}
	ProviderLate = Fault{Name: "provider answers after the time-out", Takes: 16 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.steps(ctx, in.freeze("sandbox"), wait(15*time.Second), in.docker("unpause", "sandbox"))
	}}
	// It ends when the charge is in the dead-letter queue.
	NeverAnswered = Fault{Name: "a charge that the provider never answers", Takes: 9 * time.Minute, Beside: true, run: neverAnswer}
)

// neverAnswer places an order whose charge the provider never answers, and waits until
// that charge is parked: the provider is not away, since it answers for the others.
func neverAnswer(ctx context.Context, in *Injector) error {
	const body = `{"customer_id":"silent","region":"eu","tier":"standard","payment_token":"tok_silent","items":[{"sku":"mug","quantity":1}]}`
	id := in.Customers.Order(ctx, "silent", body)
	if id == "" {
		return errors.New("its order was not taken")
	}
	in.mu.Lock()
	if in.unanswered == nil {
		in.unanswered = map[string]bool{}
	}
	in.unanswered[id] = true
	in.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 40*time.Minute) // attempts that end with the provider away do not count
	defer cancel()
	for {
		if err := stack.Wait(ctx, 5*time.Second); err != nil {
			return fmt.Errorf("order %s: its charge is not parked: %w", id, err)
		}
		dead, _ := in.Source.ReadDead(contract.DeadQueue(contract.BillingCharge.Name)) // an error: the broker is away
		for _, letters := range dead {
			if letters[0].Order == id {
				return nil
			}
		}
	}
}

// switchOn turns one of the sandbox's switches on.
func (in *Injector) switchOn(name, value string) step {
	return func(ctx context.Context) error {
		in.mu.Lock()
		if in.switches == nil {
			in.switches = map[string]string{}
		}
		in.switches[name] = value
		in.mu.Unlock()
		return in.switchAgain(ctx)
	}
}

// switchAgain turns the switches on that should be: the sandbox forgets them when it stops.
func (in *Injector) switchAgain(ctx context.Context) error {
	in.mu.Lock()
	switches := maps.Clone(in.switches)
	in.mu.Unlock()
	for name, value := range switches {
		body, err := json.Marshal(map[string]string{"value": value})
		if err != nil {
			return err
		}
		// It may start at this moment.
		err = stack.Poll(ctx, 30*time.Second, func() error { return in.Stack.Sandbox(ctx, http.MethodPut, "/v1/faults/"+name, body) })
		if err != nil {
			return err
		}
	}
	return nil
}

// switchOff turns one of the sandbox's switches off.
func (in *Injector) switchOff(name string) step {
	return func(ctx context.Context) error {
		in.mu.Lock()
		delete(in.switches, name)
		in.mu.Unlock()
		return stack.Poll(ctx, time.Minute, func() error { return in.Stack.Sandbox(ctx, http.MethodDelete, "/v1/faults/"+name, nil) })
	}
}
