package messaging

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

// newDelivery puts the client library's delivery into our form.
func newDelivery(d amqp.Delivery, queue string) *Delivery {
	out := &Delivery{
		Message: Message{
			ID:              d.MessageId,
			Type:            d.Type,
			CorrelationID:   d.CorrelationId,
			Priority:        d.Priority,
			Transient:       d.DeliveryMode != amqp.Persistent,
			ReplyTo:         d.ReplyTo,
			AppID:           d.AppId,
			UserID:          d.UserId,
			Timestamp:       d.Timestamp,
			ContentType:     d.ContentType,
			ContentEncoding: d.ContentEncoding,
			Headers:         d.Headers,
			Body:            d.Body,
		},
		Queue:       queue,
		Exchange:    d.Exchange,
		Key:         d.RoutingKey,
		Redelivered: d.Redelivered,
		ConsumerTag: d.ConsumerTag,
		Attempt:     1,
	}
	if ms, err := strconv.ParseInt(d.Expiration, 10, 64); err == nil && ms >= 0 && ms <= int64(math.MaxInt64/time.Millisecond) {
		out.Expiration = time.Duration(ms) * time.Millisecond
	}
	out.Deaths = deaths(d.Headers["x-death"])
	return out
}

// counts are the number of the attempt, how often the message was handed out before, and
// whether the broker counts at all.
//
// The broker writes both into headers of what it delivers again, on quorum queues only.
// A header that was published under one of these names stays until the broker writes its
// own: for ever on a classic queue; on a quorum queue to the first delivery that follows
// another one, and x-delivery-count to the first that follows a failure. So nothing is
// believed before, nor a number of failures above that of the deliveries, unless the
// broker has dead-lettered the message from another queue, whose failures it adds.
func (q Queue) counts(d amqp.Delivery) (attempt, acquired int, counted bool) {
	before, known := integer(d.Headers["x-acquired-count"])
	switch {
	case !d.Redelivered:
		return 1, 0, q.Type == Quorum
	case q.Type != Quorum || !known: // or it is none, whatever its description says
		return 2, 0, false
	}
	failures, _ := integer(d.Headers["x-delivery-count"])
	if failures > before && d.Headers["x-death"] == nil {
		failures = 0
	}
	return int(min(max(failures, 0), math.MaxInt32)) + 1, int(min(max(before, 0), math.MaxInt32)), true
}

// deaths reads the header x-death, and passes over what is not as the broker
// writes it: anybody may put a header of that name into a message.
func deaths(header any) []Death {
	list, _ := header.([]any)
	var out []Death
	for _, entry := range list {
		table, _ := entry.(amqp.Table)
		queue, _ := table["queue"].(string)
		reason, _ := table["reason"].(string)
		count, _ := integer(table["count"])
		if queue != "" && reason != "" {
			out = append(out, Death{Queue: queue, Reason: reason, Count: count})
		}
	}
	return out
}

// brokerHeaders are those that the broker and its plugins write, and no application.
var brokerHeaders = map[string]bool{
	"x-acquired-count": true, "x-delivery-count": true, "x-stream-offset": true, "x-death": true,
	"x-first-death-exchange": true, "x-first-death-queue": true, "x-first-death-reason": true,
	"x-last-death-exchange": true, "x-last-death-queue": true, "x-last-death-reason": true,
	"x-received-from": true, "x-shovelled": true, "x-shovelled-timestamp": true, "timestamp_in_ms": true,
}

// ApplicationHeaders are a copy of the headers without those that the broker and its
// plugins have written: what the publisher has set, for programs that pass it on. CC is
// part of it. BCC is not, since the broker removes it.
func (d *Delivery) ApplicationHeaders() map[string]any {
	out := maps.Clone(d.Headers)
	maps.DeleteFunc(out, func(name string, _ any) bool { return brokerHeaders[name] || strings.HasPrefix(name, "x-opt-") })
	return out
}

// integer reads a header that may be any of AMQP's integer types.
func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int32:
		return int64(n), true
	case int16:
		return int64(n), true
	case int8:
		return int64(n), true
	case byte:
		return int64(n), true
	default:
		return 0, false
	}
}

func uniqueTag(name string) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make a consumer tag: %w", err)
	}
	return name + "-" + id.String(), nil
}
