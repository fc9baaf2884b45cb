package faults

import (
	"context"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
)

// The network of billing fails: the container's own, or its way to the broker.
var (
	NetworkCut = Fault{Name: "network of billing cut for 10 s", Takes: 13 * time.Second, run: func(ctx context.Context, in *Injector) error {
		network := in.Stack.Network()
		return in.steps(ctx,
			in.dockerEach("network disconnect "+network, "billing"), wait(10*time.Second), in.dockerEach("network connect --alias billing "+network, "billing"))
	}}
	NetworkSlow = Fault{Name: "network of billing slow (200 ms) for 15 s", Takes: 16 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.toxic(ctx, "latency", toxiproxy.Attributes{"latency": 200}, wait(15*time.Second))
	}}
	NetworkHalfOpen = Fault{Name: "network of billing half-open for 20 s", Takes: 21 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.toxic(ctx, "timeout", toxiproxy.Attributes{"timeout": 0}, wait(20*time.Second)) // carries nothing, closes nothing
	}}
)

// toxic adds a toxic to billing's way to the broker, in both directions, for as long as a
// step takes.
func (in *Injector) toxic(ctx context.Context, kind string, attributes toxiproxy.Attributes, during step) error {
	for _, direction := range []string{"upstream", "downstream"} {
		toxic, err := in.Stack.Proxy.AddToxic(kind+" "+direction, kind, direction, 1, attributes)
		if err != nil {
			return err
		}
		defer func() { _ = in.Stack.Proxy.RemoveToxic(toxic.Name) }()
	}
	return during(ctx)
}
