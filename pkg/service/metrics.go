package service

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"example.com/orderflow/pkg/messaging/outbox"
)

// NewRegistry makes a registry with the metrics of the Go runtime and the process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// OutboxCount is how much is in an outbox.
type OutboxCount struct {
	// Waiting is all of it. HeldBack of them were refused, and are to be tried again
	// later, or have a confirm that is late.
	Waiting, HeldBack int64
}

func countOutbox(pool *pgxpool.Pool) func(ctx context.Context) (OutboxCount, error) {
	return func(ctx context.Context) (c OutboxCount, err error) {
		c.Waiting, c.HeldBack, err = outbox.Count(ctx, pool)
		return c, err
	}
}

// outboxMetrics shows the outbox's length. One look at the database serves both metrics.
type outboxMetrics struct {
	count func(ctx context.Context) (OutboxCount, error)
}

var (
	waitingDesc  = prometheus.NewDesc("outbox_waiting", "Messages in the outbox; -1 when unknown.", nil, nil)
	heldBackDesc = prometheus.NewDesc("outbox_held_back", "Messages held back, by a refusal or a late confirm; -1 when unknown.", nil, nil)
)

// Describe gives the two metrics.
func (m outboxMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- waitingDesc
	to <- heldBackDesc
}

// Collect counts, for a second at most.
func (m outboxMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	count, err := m.count(ctx)
	if err != nil {
		count = OutboxCount{-1, -1}
	}
	to <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(count.Waiting))
	to <- prometheus.MustNewConstMetric(heldBackDesc, prometheus.GaugeValue, float64(count.HeldBack))
}
