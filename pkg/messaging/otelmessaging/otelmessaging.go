// Package otelmessaging gives pkg/messaging OpenTelemetry traces and metrics, after
// the semantic conventions for messaging, version 1.43.0
// (https://opentelemetry.io/docs/specs/semconv/messaging/).
//
//	telemetry, err := otelmessaging.New()
//	conn, err := messaging.Connect(ctx, messaging.Config{..., Observers: []messaging.Observer{telemetry}})
//	conn.Consume(queue, messaging.Chain(mux.Handler(), telemetry.Middleware()))
//
// A message carries the context of the span that published it in the headers traceparent
// and tracestate. Each attempt to handle it is a span, a child of that span and linked to it.
// The headers stay when the message is retried, and a copy that is parked or replayed is
// published in a span of the same trace. So one trace has all that happens to a message.
//
// A message in an outbox is published by a relay, which does not have the context of the
// request that caused it: call [Telemetry.Inject] before the message is added.
package otelmessaging

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/orderflow/pkg/messaging"
)

const scope = "example.com/orderflow/pkg/messaging/otelmessaging"

// HeaderPublished is the time at which a message was published first, in microseconds since
// 1970, as decimal text. AMQP's own timestamp has only whole seconds.
const HeaderPublished = "published-at-us"

// Telemetry makes spans and metrics. It is a [messaging.Observer], and its
// [Telemetry.Middleware] wraps handlers. Safe for concurrent use.
type Telemetry struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	sent      metric.Int64Counter
	consumed  metric.Int64Counter
	operation metric.Float64Histogram
	process   metric.Float64Histogram
	latency   metric.Float64Histogram
}

// Option is a setting of [New]. Nil is ignored.
type Option interface{ apply(c *config) }

type option func(c *config)

func (f option) apply(c *config) { f(c) }

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	propagator propagation.TextMapPropagator
}

// WithTracerProvider sets the tracer provider. Defaults to the global one.
func WithTracerProvider(p trace.TracerProvider) Option {
	return option(func(c *config) { c.tracers = p })
}

// WithMeterProvider sets the meter provider. Defaults to the global one.
func WithMeterProvider(p metric.MeterProvider) Option {
	return option(func(c *config) { c.meters = p })
}

// WithPropagator sets what is put into the headers of a message, for example baggage too.
// Defaults to the W3C trace context, whatever the global propagator is, since publishers and
// consumers must use the same one.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return option(func(c *config) { c.propagator = p })
}

// New makes a Telemetry. It fails when a provider or the propagator is nil, and when the meter
// provider refuses an instrument.
func New(opts ...Option) (*Telemetry, error) {
	c := config{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider(), propagator: propagation.TraceContext{}}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(&c)
		}
	}
	switch {
	case c.tracers == nil:
		return nil, errors.New("otelmessaging: WithTracerProvider: is nil")
	case c.meters == nil:
		return nil, errors.New("otelmessaging: WithMeterProvider: is nil")
	case c.propagator == nil:
		return nil, errors.New("otelmessaging: WithPropagator: is nil")
	}
	t := &Telemetry{tracer: c.tracers.Tracer(scope), propagator: c.propagator}
	meter := c.meters.Meter(scope)
	var errs [5]error
	t.sent, errs[0] = meter.Int64Counter("messaging.client.sent.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that were published, confirmed or not."))
	t.consumed, errs[1] = meter.Int64Counter("messaging.client.consumed.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that got a verdict."))
	t.operation, errs[2] = meter.Float64Histogram("messaging.client.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("From publish to its outcome; for a call, its answer."), buckets)
	t.process, errs[3] = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("From delivery to its verdict."), buckets)
	t.latency, errs[4] = meter.Float64Histogram("messaging.rabbitmq.publish_to_handled.duration", metric.WithUnit("s"),
		metric.WithDescription("From the first publish of a message to its acknowledgement, retries included."), buckets)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("make the messaging instruments: %w", err)
	}
	return t, nil
}

// The boundaries that the conventions recommend.
var buckets = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// Inject puts the context of ctx into the headers of a message that will be published later,
// for example by the relay of an outbox.
func (t *Telemetry) Inject(ctx context.Context, m messaging.Message) messaging.Message {
	headers := map[string]any{}
	for k, v := range m.Headers {
		headers[k] = v
	}
	t.propagator.Inject(ctx, carrier(headers))
	stampTime(headers)
	m.Headers = headers
	return m
}

// OnPublish starts the span of a publish or a call. When the message has a context already,
// from an outbox or because it was published before, the span belongs to that trace.
func (t *Telemetry) OnPublish(ctx context.Context, e messaging.PublishEvent) func(messaging.ConfirmEvent) {
	route, m := e.Route, e.Message
	if t.contextOf(m).IsValid() {
		ctx = t.propagator.Extract(ctx, carrier(m.Headers))
	}
	kind := trace.SpanKindProducer
	if e.Call {
		kind = trace.SpanKindClient
	}
	ctx, span := t.tracer.Start(ctx, "publish "+name(route.Exchange), trace.WithSpanKind(kind), trace.WithAttributes(
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationName("publish"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(name(route.Exchange)),
		semconv.MessagingRabbitMQDestinationRoutingKey(route.Key),
		semconv.MessagingMessageID(m.ID),
		semconv.MessagingMessageConversationID(m.CorrelationID),
		semconv.MessagingMessageBodySize(len(m.Body)),
	))
	t.propagator.Inject(ctx, carrier(m.Headers))
	stampTime(m.Headers)
	return func(e messaging.ConfirmEvent) { end(span, e.Err) }
}

// Middleware makes a span for each attempt to handle a message.
func (t *Telemetry) Middleware() messaging.Middleware {
	return func(next messaging.Handler) messaging.Handler {
		return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) (err error) {
			var links []trace.Link
			if publisher := t.contextOf(&d.Message); publisher.IsValid() {
				links = append(links, trace.Link{SpanContext: publisher})
			}
			ctx = t.propagator.Extract(ctx, carrier(d.Headers))
			ctx, span := t.tracer.Start(ctx, "process "+queue(d.Queue), trace.WithSpanKind(trace.SpanKindConsumer),
				trace.WithLinks(links...), trace.WithAttributes(
					semconv.MessagingSystemRabbitMQ,
					semconv.MessagingOperationName("process"),
					semconv.MessagingOperationTypeProcess,
					semconv.MessagingDestinationName(d.Queue),
					semconv.MessagingRabbitMQDestinationRoutingKey(d.Key),
					semconv.MessagingMessageID(d.ID),
					semconv.MessagingMessageConversationID(d.CorrelationID),
					semconv.MessagingMessageBodySize(len(d.Body)),
					attribute.Int("messaging.rabbitmq.attempt", d.Attempt),
				))
			defer func() {
				if p := recover(); p != nil { // the consumer treats it as an error
					end(span, errPanic)
					panic(p)
				}
				end(span, err)
			}()
			return next.Handle(ctx, d)
		})
	}
}

var errPanic = errors.New("handler panicked")

// OnConfirm measures the outcome of a publish or a call.
func (t *Telemetry) OnConfirm(e messaging.ConfirmEvent) {
	attributes := metric.WithAttributes(append(failed(e.Err), semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationName("publish"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(name(e.Route.Exchange)))...)
	t.sent.Add(context.Background(), 1, attributes)
	t.operation.Record(context.Background(), e.Took.Seconds(), attributes)
}

// OnSettle measures the verdict on a delivery.
func (t *Telemetry) OnSettle(e messaging.SettleEvent) {
	d, verdict := e.Delivery, e.Verdict
	described := []attribute.KeyValue{
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationName("process"),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(queue(d.Queue)),
		attribute.String("messaging.rabbitmq.verdict", string(verdict)),
	}
	if verdict != messaging.Acked { // the span has the type of the error
		described = append(described, semconv.ErrorTypeKey.String(string(verdict)))
	}
	attributes := metric.WithAttributes(described...)
	t.consumed.Add(context.Background(), 1, attributes)
	t.process.Record(context.Background(), e.Took.Seconds(), attributes)
	text, _ := d.Headers[HeaderPublished].(string)
	if at, err := strconv.ParseInt(text, 10, 64); err == nil && verdict == messaging.Acked {
		t.latency.Record(context.Background(), max(time.Since(time.UnixMicro(at)), 0).Seconds(), attributes)
	}
}

// contextOf gives the span context that a message carries; it is invalid if there is none.
func (t *Telemetry) contextOf(m *messaging.Message) trace.SpanContext {
	return trace.SpanContextFromContext(t.propagator.Extract(context.Background(), carrier(m.Headers)))
}

// stampTime notes when a message was published first.
func stampTime(headers map[string]any) {
	if headers[HeaderPublished] == nil {
		headers[HeaderPublished] = strconv.FormatInt(time.Now().UnixMicro(), 10)
	}
}

func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(failed(err)...)
	}
	span.End()
}

// failed gives the attribute error.type, from a small set of values; none for success.
func failed(err error) []attribute.KeyValue {
	for _, class := range []struct {
		err  error
		name string
	}{
		{messaging.ErrUnroutable, "unroutable"},
		{messaging.ErrNacked, "nacked"},
		{messaging.ErrInvalid, "invalid"},
		{messaging.ErrRefused, "refused"},
		{messaging.ErrConnectionLost, "connection_lost"},
		{messaging.ErrStopping, "stopping"},
		{messaging.ErrUndecodable, "undecodable"},
		{messaging.ErrUntrustedSource, "untrusted_source"},
		{messaging.ErrUnknownType, "unknown_type"},
		{messaging.ErrClosed, "closed"},
		{context.DeadlineExceeded, "timeout"},
		{context.Canceled, "canceled"},
		{errPanic, "panic"},
	} {
		if errors.Is(err, class.err) {
			return []attribute.KeyValue{semconv.ErrorTypeKey.String(class.name)}
		}
	}
	if err != nil {
		return []attribute.KeyValue{semconv.ErrorTypeOther}
	}
	return nil
}

// name is the name of an exchange in the conventions.
func name(exchange string) string {
	if exchange == "" {
		return "amq.default"
	}
	return exchange
}

// queue is the name of a queue without the parts that differ for each connection.
func queue(name string) string {
	if strings.HasPrefix(name, "amq.gen-") {
		return "(temporary)"
	}
	return name
}

// carrier reads and writes the context as text headers.
type carrier map[string]any

func (c carrier) Get(key string) string {
	text, _ := c[key].(string)
	return text
}

func (c carrier) Set(key, value string) { c[key] = value }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
