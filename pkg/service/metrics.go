package service

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
)

// NewRegistry makes a registry with the metrics of the Go runtime and the process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// MessagingMetrics counts publishes by outcome and deliveries by verdict, and shows which
// consumers pause because what they need is away.
func MessagingMetrics(registry *prometheus.Registry) messaging.Hooks {
	published := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "messaging_publish_seconds", Help: "From publish to its confirm.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	}, []string{"exchange", "type", "outcome"})
	settled := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "messaging_handle_seconds", Help: "From delivery to its verdict.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	}, []string{"queue", "verdict"})
	away := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "messaging_consumer_away", Help: "1 while what the consumer of a queue needs is away, so that it pauses.",
	}, []string{"queue"})
	registry.MustRegister(published, settled, away)
	return messaging.Hooks{
		Published: func(route messaging.Route, messageType string, err error, took time.Duration) {
			outcome := "confirmed"
			if err != nil {
				outcome = "failed"
			}
			published.WithLabelValues(route.Exchange, messageType, outcome).Observe(took.Seconds())
		},
		Settled: func(d *messaging.Delivery, verdict messaging.Verdict, took time.Duration) {
			queue := d.Queue
			if strings.HasPrefix(queue, "amq.gen-") {
				queue = "(server-named)" // a new name after each reconnect would be a new series
			}
			settled.WithLabelValues(queue, string(verdict)).Observe(took.Seconds())
		},
		Away: func(queue string, err error) {
			state := 0.0
			if err != nil {
				state = 1
			}
			away.WithLabelValues(queue).Set(state)
		},
	}
}

// OutboxMetrics shows how many messages wait in the outbox, and how many of them
// are held back, by a refusal or a confirm that is late. The database is asked at each scrape.
func OutboxMetrics(registry *prometheus.Registry, pool *pgxpool.Pool) {
	count := func(pick func(waiting, heldBack int64) int64) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			waiting, heldBack, err := outbox.Count(ctx, pool)
			if err != nil {
				return -1
			}
			return float64(pick(waiting, heldBack))
		}
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "outbox_waiting", Help: "Messages in the outbox; -1 when unknown."},
			count(func(waiting, _ int64) int64 { return waiting })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "outbox_held_back", Help: "Messages held back, by a refusal or a late confirm; -1 when unknown."},
			count(func(_, heldBack int64) int64 { return heldBack })),
	)
}
