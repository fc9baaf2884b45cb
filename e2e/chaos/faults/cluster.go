package faults

import (
	"context"
	"net/http"
	"strings"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/stack"
)

// Nodes of a cluster go away and come back. Each fault ends when every queue has all its
// replicas again.
var (
	FirstNodeKilled  = nodeKilled("rabbitmq")
	SecondNodeKilled = nodeKilled("rabbitmq-2")
	ThirdNodeKilled  = nodeKilled("rabbitmq-3")
	LeaderKilled     = Fault{Name: "leader of billing.charge killed", Takes: 30 * time.Second, BrokerAway: true, run: func(ctx context.Context, in *Injector) error {
		node, err := in.leader(ctx)
		if err != nil {
			return err
		}
		return in.killNode(ctx, node)
	}}
	// The node reaches nobody, and nobody reaches it.
	LeaderIsolated = Fault{Name: "leader of billing.charge isolated for 20 s", Takes: 35 * time.Second, run: func(ctx context.Context, in *Injector) error {
		node, err := in.leader(ctx)
		if err != nil {
			return err
		}
		network := in.Stack.Network()
		return in.steps(ctx, in.dockerOne("network disconnect "+network, node, 1), wait(20*time.Second),
			in.dockerOne("network connect --alias "+node+" "+network, node, 1), in.brokerBack, in.complete)
	}}
	NodesRestarted = Fault{Name: "rolling restart of all nodes", Takes: 130 * time.Second, BrokerAway: true, run: func(ctx context.Context, in *Injector) error {
		for _, node := range in.Stack.Nodes {
			err := in.steps(ctx, in.complete, in.docker("stop -t 60", node), in.docker("start", node), in.brokerBack)
			if err != nil {
				return err
			}
		}
		return in.complete(ctx)
	}}
)

func nodeKilled(node string) Fault {
	return Fault{Name: "node " + node + " killed", Takes: 30 * time.Second, BrokerAway: true, run: func(ctx context.Context, in *Injector) error {
		return in.killNode(ctx, node)
	}}
}

func (in *Injector) killNode(ctx context.Context, node string) error {
	return in.steps(ctx, in.kill(node), in.brokerBack, in.complete)
}

// leader is the node that the leader of billing.charge is on.
func (in *Injector) leader(ctx context.Context) (string, error) {
	var queue struct {
		Leader string `json:"leader"`
	}
	if err := in.Stack.Management(ctx, http.MethodGet, "/api/queues/%2F/"+contract.BillingCharge.Name, nil, &queue); err != nil {
		return "", err
	}
	node := strings.TrimPrefix(queue.Leader, "rabbit@")
	in.Say("%s: the leader is %s", in.Clock(), node)
	return node, nil
}

// complete waits until every queue has all its replicas again, so that the next node may
// go: a queue that has lost two of three has no majority.
func (in *Injector) complete(ctx context.Context) error {
	return stack.Poll(ctx, 3*time.Minute, func() error {
		for node := range in.Stack.Nodes {
			// Over HTTP, since each rabbitmq-diagnostics starts an Erlang VM.
			if err := in.Stack.ManagementOf(ctx, node, http.MethodGet, "/api/health/checks/node-is-quorum-critical", nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
