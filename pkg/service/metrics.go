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

// OutboxCount is how many messages are in an outbox.
type OutboxCount struct {
	// Waiting is the number of all messages. HeldBack is the number of those that the broker
	// refused, or whose confirm is late; they are sent again later.
	Waiting, HeldBack int64
}

func countOutbox(pool *pgxpool.Pool) func(ctx context.Context) (OutboxCount, error) {
	return func(ctx context.Context) (c OutboxCount, err error) {
		c.Waiting, c.HeldBack, err = outbox.Count(ctx, pool)
		return c, err
	}
}

// outboxMetrics has the length of the outbox. One query serves both metrics.
type outboxMetrics struct {
	count func(ctx context.Context) (OutboxCount, error)
}

var (
	waitingDesc  = prometheus.NewDesc("outbox_waiting", "Messages in the outbox; -1 when unknown.", nil, nil)
	heldBackDesc = prometheus.NewDesc("outbox_held_back", "Messages in the outbox that were refused or whose confirm is late; -1 when unknown.", nil, nil)
)

// Describe sends the two metrics' descriptions.
func (m outboxMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- waitingDesc
	to <- heldBackDesc
}

// Collect queries the database, for at most a second.
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
