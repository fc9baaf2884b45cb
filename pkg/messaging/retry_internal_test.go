package messaging

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// The table at Handler.
func TestRetriesByDescription(t *testing.T) {
	t.Parallel()
	delay := &DelayedRetry{Min: time.Second, Max: time.Second}
	for name, c := range map[string]struct {
		queue  Queue
		window time.Duration
		want   retries
	}{
		"the broker delays":            {Queue{Type: Quorum, DelayedRetry: delay, DeliveryLimit: 5}, 0, retries{limit: 5}},
		"its default limit":            {Queue{Type: Quorum, DelayedRetry: delay}, 0, retries{limit: 20}},
		"no limit, as it is asked for": {Queue{Type: Quorum, DelayedRetry: delay, DeliveryLimit: Unlimited}, 0, retries{limit: 0}},
		"no delay":                     {Queue{Type: Quorum, DeliveryLimit: 5}, 0, retries{delayed: true, limit: 5}},
		"no delay, no limit":           {Queue{Type: Quorum, DeliveryLimit: Unlimited}, 0, retries{delayed: true, limit: 20}},
		"classic":                      {Queue{Type: Classic}, 0, retries{limit: 20}},
		"no type":                      {Queue{}, 0, retries{limit: 20}},
		"in order":                     {Queue{Type: Quorum, DeliveryLimit: 5}, time.Minute, retries{window: time.Minute, limit: 5}},
		"in order, classic":            {Queue{Type: Classic}, time.Minute, retries{window: time.Minute}},
	} {
		require.Equal(t, c.want, retriesOf(c.queue, c.window), name)
	}
	total := time.Duration(0)
	for attempt := 1; attempt <= 20; attempt++ {
		total += retryDelay(attempt)
	}
	require.Equal(t, 76300*time.Millisecond, total)
	require.Equal(t, lastRetryDelay, retryDelay(1<<40))
	require.Equal(t, firstRetryDelay, retryDelay(-1))
}

func TestCountsThatAreBelieved(t *testing.T) {
	t.Parallel()
	type counts struct {
		attempt, acquired int
		counted           bool
	}
	quorum, classic := Queue{Type: Quorum}, Queue{Type: Classic}
	for name, c := range map[string]struct {
		queue       Queue
		redelivered bool
		headers     amqp.Table
		want        counts
	}{
		"fresh":                       {quorum, false, nil, counts{1, 0, true}},
		"fresh and forged":            {quorum, false, amqp.Table{"x-delivery-count": int64(20), "x-acquired-count": int64(20)}, counts{1, 0, true}},
		"failed":                      {quorum, true, amqp.Table{"x-delivery-count": int64(2), "x-acquired-count": int64(3)}, counts{3, 3, true}},
		"given back":                  {quorum, true, amqp.Table{"x-acquired-count": int64(3)}, counts{1, 3, true}},
		"given back and forged":       {quorum, true, amqp.Table{"x-delivery-count": int64(20), "x-acquired-count": int64(1)}, counts{1, 1, true}},
		"negative":                    {quorum, true, amqp.Table{"x-delivery-count": int64(-20), "x-acquired-count": int64(-1)}, counts{1, 0, true}},
		"by the broker's death":       {quorum, true, amqp.Table{"x-delivery-count": int64(3), "x-acquired-count": int64(1), "x-death": []any{}}, counts{4, 1, true}},
		"described wrongly":           {quorum, true, amqp.Table{"x-delivery-count": int64(3)}, counts{2, 0, false}},
		"classic":                     {classic, true, amqp.Table{"x-delivery-count": int64(3), "x-acquired-count": int64(3)}, counts{2, 0, false}},
		"classic and fresh":           {classic, false, nil, counts{1, 0, false}},
		"of a type that was not said": {Queue{}, true, amqp.Table{"x-acquired-count": int64(3)}, counts{2, 0, false}},
	} {
		var got counts
		got.attempt, got.acquired, got.counted = c.queue.counts(amqp.Delivery{Redelivered: c.redelivered, Headers: c.headers})
		require.Equal(t, c.want, got, name)
	}
}
