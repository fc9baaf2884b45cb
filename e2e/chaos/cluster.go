package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"example.com/orderflow/contract"
)

var (
	firstNodeKilled  = fault{"node rabbitmq killed", 30 * time.Second, killNode("rabbitmq")}
	secondNodeKilled = fault{"node rabbitmq-2 killed", 30 * time.Second, killNode("rabbitmq-2")}
	thirdNodeKilled  = fault{"node rabbitmq-3 killed", 30 * time.Second, killNode("rabbitmq-3")}
	leaderKilled     = fault{"leader of billing.charge killed", 30 * time.Second, func(ctx context.Context, d *run) error {
		node, err := d.leader(ctx)
		if err != nil {
			return err
		}
		return killNode(node)(ctx, d)
	}}
	// The node sees nobody, and nobody sees it.
	leaderIsolated = fault{"leader of billing.charge isolated for 20 s", 35 * time.Second, func(ctx context.Context, d *run) error {
		node, err := d.leader(ctx)
		if err != nil {
			return err
		}
		network := d.system.project + "_default"
		return d.steps(ctx, d.one("network disconnect "+network, node, 1), pause(20*time.Second),
			d.one("network connect --alias "+node+" "+network, node, 1), d.brokerBack, d.complete)
	}}
	nodesRestarted = fault{"rolling restart of all nodes", 130 * time.Second, func(ctx context.Context, d *run) error {
		for _, node := range d.system.nodes {
			err := d.steps(ctx, d.complete, d.docker("stop -t 60", node), d.docker("start", node), d.brokerBack)
			if err != nil {
				return err
			}
		}
		return d.complete(ctx)
	}}
)

// clusterFaults are the faults of a cluster, and some of the others beside them.
var clusterFaults = []fault{
	firstNodeKilled, secondNodeKilled, thirdNodeKilled, leaderKilled, leaderIsolated, nodesRestarted,
	connectionsClosed, billingKilled, ordersKilled, rollingRestart, databaseKilled, providerLate, poisoned,
}

// leader is the node that the leader of billing.charge is on.
func (d *run) leader(ctx context.Context) (string, error) {
	var queue struct {
		Leader string `json:"leader"`
	}
	if err := d.system.management(ctx, http.MethodGet, "/api/queues/%2F/"+contract.BillingCharge.Name, nil, &queue); err != nil {
		return "", err
	}
	node := strings.TrimPrefix(queue.Leader, "rabbit@")
	say("%s: the leader is %s", d.clock(), node)
	return node, nil
}

func killNode(node string) func(ctx context.Context, d *run) error {
	return func(ctx context.Context, d *run) error {
		return d.steps(ctx, d.kill(node), d.brokerBack, d.complete)
	}
}

// complete waits until every queue has all its replicas again, so that the next
// node may go: what two of three have lost is lost.
func (d *run) complete(ctx context.Context) error {
	return poll(ctx, 3*time.Minute, func() error {
		for _, port := range managementPorts[:len(d.system.nodes)] {
			// Over HTTP, since each rabbitmq-diagnostics starts an Erlang VM.
			if err := d.system.managementAt(ctx, port, http.MethodGet, "/api/health/checks/node-is-quorum-critical", nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
