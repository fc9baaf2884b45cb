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

// newDelivery makes a Delivery of the client library's delivery.
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

// counts gives the number of the attempt, how often the message was delivered before, and
// whether the broker counts the attempts.
//
// Only a quorum queue writes these numbers, into the headers of messages that it delivers
// again. A header that a publisher has set under one of these names stays until the broker
// writes its own: on a classic queue for ever; on a quorum queue x-acquired-count until the
// second delivery, and x-delivery-count until the first delivery after a failure. So the
// headers are not used before that. Neither is a number of failures above the number of
// deliveries, unless the broker has dead-lettered the message from another queue: then it
// adds the failures there.
func (q Queue) counts(d amqp.Delivery) (attempt, acquired int, counted bool) {
	before, known := integer(d.Headers["x-acquired-count"])
	switch {
	case !d.Redelivered:
		return 1, 0, q.Type == Quorum
	case q.Type != Quorum || !known: // without the header it is not a quorum queue, whatever the description says
		return 2, 0, false
	}
	failures, _ := integer(d.Headers["x-delivery-count"])
	if failures > before && d.Headers["x-death"] == nil {
		failures = 0
	}
	return int(min(max(failures, 0), math.MaxInt32)) + 1, int(min(max(before, 0), math.MaxInt32)), true
}

// deaths reads the header x-death. It skips entries that the broker cannot have written:
// every publisher can set a header with that name.
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

// brokerHeaders are the headers that the broker and its plugins write.
var brokerHeaders = map[string]bool{
	"x-acquired-count": true, "x-delivery-count": true, "x-stream-offset": true, "x-death": true,
	"x-first-death-exchange": true, "x-first-death-queue": true, "x-first-death-reason": true,
	"x-last-death-exchange": true, "x-last-death-queue": true, "x-last-death-reason": true,
	"x-received-from": true, "x-shovelled": true, "x-shovelled-timestamp": true, "timestamp_in_ms": true,
}

// ApplicationHeaders gives a copy of the headers without those that the broker and its
// plugins write. These are the headers that the publisher has set, for programs that publish
// the message again. CC is among them; BCC is not, since the broker removes it.
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
