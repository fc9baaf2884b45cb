package service

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/orderflow/pkg/messaging"
)

// MessagingMetrics is a [messaging.Observer]: it counts publishes by outcome and
// deliveries by verdict. It also has gauges for the messages in progress, for consumers that
// pause because a system that they need is unavailable, and metrics of connections.
type MessagingMetrics struct {
	published   *prometheus.HistogramVec
	settled     *prometheus.HistogramVec
	inFlight    *prometheus.GaugeVec
	away        *prometheus.GaugeVec
	overdue     *prometheus.CounterVec
	lost        prometheus.Counter
	blocked     prometheus.Gauge
	allInFlight atomic.Int64
}

// NewMessagingMetrics registers the metrics.
func NewMessagingMetrics(registry *prometheus.Registry) *MessagingMetrics {
	m := &MessagingMetrics{
		published: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "messaging_publish_seconds", Help: "Time from publish to confirm.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"exchange", "type", "outcome"}),
		settled: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "messaging_handle_seconds", Help: "Time from delivery to verdict.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"queue", "verdict"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "messaging_in_flight", Help: "Messages of a queue that are being handled.",
		}, []string{"queue"}),
		away: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "messaging_consumer_away", Help: "1 while the consumer of a queue pauses because a system that it needs is unavailable.",
		}, []string{"queue"}),
		overdue: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "messaging_handler_overdue_total", Help: "Handlers that had not returned when their deadline passed.",
		}, []string{"queue"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "messaging_connections_lost_total", Help: "Connections to the broker that were lost.",
		}),
		blocked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "messaging_connections_blocked", Help: "Connections that the broker blocks because it is low on memory or disk.",
		}),
	}
	registry.MustRegister(m.published, m.settled, m.inFlight, m.away, m.overdue, m.lost, m.blocked)
	return m
}

// InFlight is how many messages are being handled.
func (m *MessagingMetrics) InFlight() int64 { return m.allInFlight.Load() }

// OnConfirm records the outcome of a publish.
func (m *MessagingMetrics) OnConfirm(e messaging.ConfirmEvent) {
	outcome := "confirmed"
	if e.Err != nil {
		outcome = "failed"
	}
	m.published.WithLabelValues(e.Route.Exchange, e.Type, outcome).Observe(e.Took.Seconds())
}

// OnDeliver counts a message that is now in progress.
func (m *MessagingMetrics) OnDeliver(e messaging.DeliverEvent) {
	m.allInFlight.Add(1)
	m.inFlight.WithLabelValues(queueLabel(e.Delivery.Queue)).Inc()
}

// OnSettle counts a message that is no longer in progress, and records its verdict.
func (m *MessagingMetrics) OnSettle(e messaging.SettleEvent) {
	queue := queueLabel(e.Delivery.Queue)
	m.allInFlight.Add(-1)
	m.inFlight.WithLabelValues(queue).Dec()
	m.settled.WithLabelValues(queue, string(e.Verdict)).Observe(e.Took.Seconds())
}

// OnAway sets whether the consumer of a queue pauses.
func (m *MessagingMetrics) OnAway(e messaging.AwayEvent) {
	state := 0.0
	if e.Err != nil {
		state = 1
	}
	m.away.WithLabelValues(e.Queue).Set(state)
}

// OnOverdue counts a handler that has not returned at its deadline.
func (m *MessagingMetrics) OnOverdue(e messaging.OverdueEvent) {
	m.overdue.WithLabelValues(queueLabel(e.Queue)).Inc()
}

// OnDisconnect counts lost connections.
func (m *MessagingMetrics) OnDisconnect(e messaging.DisconnectEvent) {
	if !errors.Is(e.Err, messaging.ErrClosed) {
		m.lost.Inc()
	}
}

// OnBlock counts the connections that are blocked.
func (m *MessagingMetrics) OnBlock(e messaging.BlockEvent) {
	if e.Blocked {
		m.blocked.Inc()
	} else {
		m.blocked.Dec()
	}
}

// queueLabel is a queue's name. A server-named queue has a new name after each reconnect,
// and each name would be a new series of the metric.
func queueLabel(queue string) string {
	if strings.HasPrefix(queue, "amq.gen-") {
		return "(server-named)"
	}
	return queue
}
