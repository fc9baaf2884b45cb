package otelmessaging_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/otelmessaging"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

var job = messaging.MessageType{Name: "job.v1", Owner: "admin"}

type fixture struct {
	spans     *tracetest.InMemoryExporter
	metrics   *metric.ManualReader
	provider  *sdktrace.TracerProvider
	telemetry *otelmessaging.Telemetry
	broker    *messagingtest.BrokerInfo
	conn      *messaging.Conn
	ch        *amqp.Channel
	queue     messaging.Queue
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{spans: tracetest.NewInMemoryExporter(), metrics: metric.NewManualReader(), broker: messagingtest.Broker(t)}
	f.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(f.spans))
	telemetry, err := otelmessaging.New(otelmessaging.WithTracerProvider(f.provider),
		otelmessaging.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(f.metrics))))
	require.NoError(t, err)
	f.telemetry = telemetry
	config := f.broker.Config()
	config.Observers = []messaging.Observer{telemetry}
	f.conn = f.broker.Connect(t, config)

	raw, err := amqp.Dial(f.broker.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	f.ch, err = raw.Channel()
	require.NoError(t, err)
	require.NoError(t, f.ch.ExchangeDeclare("dead.letters", "direct", true, false, false, false, nil))
	for _, name := range []string{"jobs", "jobs.dead"} {
		_, err = f.ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		require.NoError(t, err)
	}
	require.NoError(t, f.ch.QueueBind("jobs.dead", "jobs", "dead.letters", false, nil))
	f.queue = messaging.Queue{Name: "jobs", Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20},
		DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: "jobs"}}
	return f
}

func (f *fixture) consume(t *testing.T, h messaging.HandlerFunc) {
	t.Helper()
	_, err := f.conn.Consume(f.queue, messaging.Chain(h, f.telemetry.Middleware()))
	require.NoError(t, err)
}

// wait gives the spans of a name when there are that many.
func (f *fixture) wait(t *testing.T, name string, n int) tracetest.SpanStubs {
	t.Helper()
	var found tracetest.SpanStubs
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		found = slices.DeleteFunc(f.spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name != name })
		return len(found) == n, fmt.Sprintf("%d spans %q", len(found), name)
	})
	return found
}

func (f *fixture) publisher(t *testing.T) *messaging.Publisher {
	t.Helper()
	p, err := f.conn.Publisher()
	require.NoError(t, err)
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func message(t *testing.T) messaging.Message {
	t.Helper()
	m, err := messaging.NewMessage(job, "x")
	require.NoError(t, err)
	return m
}

// One message: published in somebody's span, failed once, retried, parked, replayed
// by hand and handled. All of it is one trace.
func TestOneTraceThroughRetryParkingAndReplay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	attempts := 0
	f.consume(t, func(context.Context, *messaging.Delivery) error {
		attempts++
		switch attempts {
		case 1:
			return errors.New("not now")
		case 2:
			return messaging.Permanent(errors.New("never"))
		default:
			return nil
		}
	})
	ctx, caller := f.provider.Tracer("test").Start(within(t), "caller")
	m := message(t)
	m.Headers = map[string]any{"mine": "stays"}
	require.NoError(t, f.publisher(t).Publish(ctx, messaging.Route{Key: "jobs"}, m))
	caller.End()
	require.Equal(t, map[string]any{"mine": "stays"}, m.Headers, "the caller's map is its own")

	processed := f.wait(t, "process jobs", 2)
	published := f.wait(t, "publish amq.default", 1)[0]
	parked := f.wait(t, "publish dead.letters", 1)[0]
	require.Equal(t, caller.SpanContext().SpanID(), published.Parent.SpanID())
	require.Equal(t, trace.SpanKindProducer, published.SpanKind)
	for _, attempt := range processed {
		require.Equal(t, published.SpanContext.SpanID(), attempt.Parent.SpanID(), "a child of the publish")
		require.Len(t, attempt.Links, 1)
		require.Equal(t, published.SpanContext.SpanID(), attempt.Links[0].SpanContext.SpanID(), "and linked to it")
		require.Equal(t, codes.Error, attempt.Status.Code)
	}

	var dead amqp.Delivery
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		got, ok, err := f.ch.Get("jobs.dead", true)
		require.NoError(t, err)
		dead = got
		return ok, "nothing was parked"
	})
	require.Equal(t, "stays", dead.Headers["mine"])
	headers := amqp.Table{}
	maps.Copy(headers, dead.Headers)
	require.NoError(t, f.ch.Publish("", "jobs", true, false, amqp.Publishing{MessageId: dead.MessageId, Headers: headers, Body: dead.Body}))

	processed = f.wait(t, "process jobs", 3)
	require.Equal(t, codes.Unset, processed[2].Status.Code)
	require.Equal(t, parked.SpanContext.SpanID(), processed[2].Parent.SpanID())
	for _, s := range f.spans.GetSpans() {
		require.Equal(t, caller.SpanContext().TraceID(), s.SpanContext.TraceID(), s.Name)
	}
}

func TestAPanicEndsItsSpan(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tried := false
	f.consume(t, func(context.Context, *messaging.Delivery) error {
		if !tried {
			tried = true
			panic("oops")
		}
		return nil
	})
	require.NoError(t, f.publisher(t).Publish(within(t), messaging.Route{Key: "jobs"}, message(t)))
	first := f.wait(t, "process jobs", 2)[0]
	require.Contains(t, first.Attributes, attribute.String("error.type", "panic"))
}

// A message from an outbox belongs to the span in which it was added.
func TestInject(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx, request := f.provider.Tracer("test").Start(within(t), "request")
	m := f.telemetry.Inject(ctx, message(t))
	request.End()
	require.NoError(t, f.publisher(t).Publish(context.WithoutCancel(within(t)), messaging.Route{Key: "jobs"}, m))
	require.Equal(t, request.SpanContext().SpanID(), f.wait(t, "publish amq.default", 1)[0].Parent.SpanID())
}

// The propagator decides what the headers carry, and the handler gets it.
func TestPropagator(t *testing.T) {
	t.Parallel()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewInMemoryExporter()))
	telemetry, err := otelmessaging.New(nil, otelmessaging.WithTracerProvider(provider),
		otelmessaging.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})))
	require.NoError(t, err)
	member, err := baggage.NewMember("tenant", "acme")
	require.NoError(t, err)
	bag, err := baggage.New(member)
	require.NoError(t, err)
	ctx, caller := provider.Tracer("test").Start(baggage.ContextWithBaggage(t.Context(), bag), "caller")
	m := message(t)
	m.Headers = map[string]any{}
	telemetry.OnPublish(ctx, messaging.PublishEvent{Message: &m})(messaging.ConfirmEvent{})
	require.Equal(t, "tenant=acme", m.Headers["baggage"])

	var got context.Context
	h := messaging.Chain(messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
		got = ctx
		return nil
	}), telemetry.Middleware())
	require.NoError(t, h.Handle(t.Context(), &messaging.Delivery{Message: m}))
	require.Equal(t, "acme", baggage.FromContext(got).Member("tenant").Value())
	require.Equal(t, caller.SpanContext().TraceID(), trace.SpanContextFromContext(got).TraceID())

	// A relay publishes with the context of the message, not with its own.
	telemetry.OnPublish(t.Context(), messaging.PublishEvent{Message: &m})(messaging.ConfirmEvent{})
	require.Equal(t, "tenant=acme", m.Headers["baggage"])
	require.Contains(t, m.Headers["traceparent"], caller.SpanContext().TraceID().String())
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]otelmessaging.Option{
		"WithTracerProvider": otelmessaging.WithTracerProvider(nil),
		"WithMeterProvider":  otelmessaging.WithMeterProvider(nil),
		"WithPropagator":     otelmessaging.WithPropagator(nil),
	} {
		_, err := otelmessaging.New(opt)
		require.EqualError(t, err, "otelmessaging: "+want+": is nil")
	}
}

func TestACallIsOneTrace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	double := messaging.Procedure[int, int]{
		Route: messaging.Route{Key: "jobs"}, Request: job, Reply: messaging.MessageType{Name: "reply.v1", Owner: "admin"},
	}
	f.consume(t, messaging.Serve(f.publisher(t), double, func(_ context.Context, _ *messaging.Delivery, n int) (int, error) {
		return 2 * n, nil
	}).Handle)
	got, err := messaging.Call(within(t), f.conn.Caller(), double, 21)
	require.NoError(t, err)
	require.Equal(t, 42, got)

	process := f.wait(t, "process jobs", 1)[0]
	published := f.wait(t, "publish amq.default", 2)
	reply, call := published[0], published[1]
	if reply.SpanKind == trace.SpanKindClient { // the call may end before the reply's confirm is there
		reply, call = call, reply
	}
	require.Equal(t, trace.SpanKindProducer, reply.SpanKind)
	require.Equal(t, process.SpanContext.SpanID(), reply.Parent.SpanID())
	require.Equal(t, trace.SpanKindClient, call.SpanKind)
	require.Equal(t, call.SpanContext.SpanID(), process.Parent.SpanID())
	require.Subset(t, call.Attributes, []attribute.KeyValue{
		attribute.String("messaging.system", "rabbitmq"),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", "amq.default"),
		attribute.String("messaging.rabbitmq.destination.routing_key", "jobs"),
	})
	require.Subset(t, process.Attributes, []attribute.KeyValue{
		attribute.String("messaging.system", "rabbitmq"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", "jobs"),
		attribute.String("messaging.rabbitmq.destination.routing_key", "jobs"),
		attribute.Int("messaging.message.body.size", 2),
	})
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { // the reply's confirm may come last
		n := count(f.collect(t)["messaging.client.operation.duration"])
		return n == 2, fmt.Sprintf("%d publishes, a call and a reply are wanted", n)
	})
}

// collect gives the metrics by name.
func (f *fixture) collect(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var got metricdata.ResourceMetrics
	require.NoError(t, f.metrics.Collect(t.Context(), &got))
	all := map[string]metricdata.Metrics{}
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			all[m.Name] = m
		}
	}
	return all
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var failed atomic.Bool
	f.consume(t, func(context.Context, *messaging.Delivery) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("not now")
		}
		return nil
	})
	p := f.publisher(t)
	require.NoError(t, p.Publish(within(t), messaging.Route{Key: "jobs"}, message(t)))
	require.ErrorIs(t, p.Publish(within(t), messaging.Route{Key: "nowhere"}, message(t)), messaging.ErrUnroutable)
	f.wait(t, "process jobs", 2)

	var all map[string]metricdata.Metrics
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		all = f.collect(t)
		n := count(all["messaging.process.duration"])
		return n == 2, fmt.Sprintf("%d verdicts", n)
	})
	units := map[string]string{}
	for name, m := range all {
		units[name] = m.Unit
	}
	require.Equal(t, map[string]string{
		"messaging.client.sent.messages":                 "{message}",
		"messaging.client.consumed.messages":             "{message}",
		"messaging.client.operation.duration":            "s",
		"messaging.process.duration":                     "s",
		"messaging.rabbitmq.publish_to_handled.duration": "s",
	}, units)

	publish := []attribute.KeyValue{
		attribute.String("messaging.system", "rabbitmq"), attribute.String("messaging.destination.name", "amq.default"),
		attribute.String("messaging.operation.name", "publish"), attribute.String("messaging.operation.type", "send"),
	}
	process := []attribute.KeyValue{
		attribute.String("messaging.system", "rabbitmq"), attribute.String("messaging.destination.name", "jobs"),
		attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
	}
	published := once(publish, append(publish, attribute.String("error.type", "unroutable")))
	processed := once(append(process, attribute.String("messaging.rabbitmq.verdict", "acked")),
		append(process, attribute.String("messaging.rabbitmq.verdict", "rejected"), attribute.String("error.type", "rejected")))
	require.Equal(t, published, points(all["messaging.client.sent.messages"]))
	require.Equal(t, published, points(all["messaging.client.operation.duration"]))
	require.Equal(t, processed, points(all["messaging.client.consumed.messages"]))
	require.Equal(t, processed, points(all["messaging.process.duration"]))
	latency := all["messaging.rabbitmq.publish_to_handled.duration"].Data.(metricdata.Histogram[float64]).DataPoints
	require.Len(t, latency, 1)
	require.Positive(t, latency[0].Sum)
	require.Less(t, latency[0].Sum, 20.0, "seconds")
}

// once is one measurement of each set of attributes.
func once(sets ...[]attribute.KeyValue) map[attribute.Distinct]uint64 {
	all := map[attribute.Distinct]uint64{}
	for _, attributes := range sets {
		set := attribute.NewSet(slices.Clone(attributes)...)
		all[set.Equivalent()] = 1
	}
	return all
}

// points is how often each set of attributes was measured.
func points(m metricdata.Metrics) map[attribute.Distinct]uint64 {
	all := map[attribute.Distinct]uint64{}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			all[point.Attributes.Equivalent()] += uint64(point.Value)
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			all[point.Attributes.Equivalent()] += point.Count
		}
	}
	return all
}

func count(m metricdata.Metrics) (n uint64) {
	for _, times := range points(m) {
		n += times
	}
	return n
}
