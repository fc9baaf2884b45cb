package messaging

import (
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// The table at Handler.
func TestRetriesByDescription(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	delays := Retry{Limit: 5, MinDelay: time.Second, MaxDelay: time.Minute}
	for name, c := range map[string]struct {
		queue   Queue
		limit   int
		window  time.Duration
		delayed bool // by the consumer
		broker  bool // delays
		kept    time.Duration
	}{
		"quorum, with delays":     {Queue{Type: Quorum, Retry: delays}, 5, 0, false, true, 0},
		"its default limit":       {Queue{Type: Quorum, Retry: Retry{MinDelay: 1, MaxDelay: 1}}, 20, 0, false, true, 0},
		"no limit":                {Queue{Type: Quorum, Retry: Retry{Limit: Unlimited, MinDelay: 1, MaxDelay: 1}}, Unlimited, 0, false, true, 0},
		"quorum":                  {Queue{Type: Quorum, Retry: Retry{Limit: 5}}, 5, 0, true, false, 0},
		"quorum, no limit":        {Queue{Type: Quorum, Retry: Retry{Limit: Unlimited}}, Unlimited, 0, true, false, 0},
		"quorum, in place":        {Queue{Type: Quorum, Retry: Retry{InPlace: hour, MinDelay: 1, MaxDelay: 2}}, 20, hour, false, false, hour},
		"classic":                 {Queue{Type: Classic}, 20, 0, false, false, 0},
		"classic, with delays":    {Queue{Type: Classic, Retry: delays}, 5, 0, false, false, time.Minute},
		"no type":                 {Queue{}, 20, 0, false, false, 0},
		"in order":                {Queue{Type: Quorum, SingleActiveConsumer: true, Retry: delays}, 5, 75 * time.Second, false, false, 75 * time.Second},
		"in order, not in place":  {Queue{Type: Quorum, SingleActiveConsumer: true, Retry: Retry{InPlace: -1, MinDelay: 1, MaxDelay: 2}}, 20, 0, true, false, 2},
		"in order, classic":       {Queue{Type: Classic, SingleActiveConsumer: true}, Unlimited, 75 * time.Second, false, false, 75 * time.Second},
		"in order, a time of its": {Queue{Type: Classic, SingleActiveConsumer: true, Retry: Retry{InPlace: hour}}, Unlimited, hour, false, false, hour},
	} {
		r := retriesOf(c.queue)
		require.Equal(t, c.limit, r.Limit, name)
		require.Equal(t, c.window, r.window, name)
		require.Equal(t, c.delayed, r.delayed, name)
		require.Equal(t, c.broker, c.queue.brokerDelays(), name)
		require.Equal(t, c.kept, c.queue.kept(), name)
		_, delays := c.queue.policy()["delayed-retry-min"]
		require.Equal(t, c.broker, delays, name)
		_, limited := c.queue.policy()["delivery-limit"]
		require.Equal(t, c.queue.Type == Quorum && c.queue.Retry.Limit != 0, limited, name)
	}
}

func TestRetryDelays(t *testing.T) {
	t.Parallel()
	var unset retries
	total := time.Duration(0)
	for attempt := 1; attempt <= 20; attempt++ {
		total += unset.delay(attempt)
	}
	require.Equal(t, 76300*time.Millisecond, total)
	require.Equal(t, lastRetryDelay, unset.delay(1<<40))
	require.Equal(t, firstRetryDelay, unset.delay(-1))

	linear := retries{Retry: Retry{MinDelay: time.Second, MaxDelay: 3500 * time.Millisecond}}
	for attempt, want := range map[int]time.Duration{-1: 1000, 1: 1000, 2: 2000, 3: 3000, 4: 3500, 1 << 40: 3500} {
		require.Equal(t, want*time.Millisecond, linear.delay(attempt), attempt)
	}
	longest := retries{Retry: Retry{MinDelay: time.Millisecond, MaxDelay: maxWait}}
	require.Equal(t, maxWait, longest.delay(1<<62))
}

// Of several marks on one error the first one counts.
func TestMarksOfAnError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, c := range map[string]struct {
		err  error
		want outcome
	}{
		"none":          {cause, outcome{}},
		"give back":     {GiveBack(cause, time.Minute), outcome{back: true, pause: time.Minute}},
		"in place":      {fmt.Errorf("wrapped: %w", RetryInPlace(cause)), outcome{inPlace: true}},
		"both":          {RetryInPlace(GiveBack(cause, 1)), outcome{back: true, pause: 1}},
		"away":          {GiveBack(UnavailableFor(RetryInPlace(cause), 2), 1), outcome{away: true, pause: 2}},
		"permanent":     {RetryInPlace(GiveBack(Unavailable(Permanent(cause)), 1)), outcome{permanent: true}},
		"a call's":      {done(GiveBack(cause, 1)), outcome{done: true}},
		"of no failure": {errors.Join(GiveBack(nil, 1), RetryInPlace(nil)), outcome{}},
	} {
		got := classify(c.err)
		require.Equal(t, c.err != nil, got.failed, name)
		got.failed, got.text = false, ""
		require.Equal(t, c.want, got, name)
	}
}

func TestCountsOfTheBroker(t *testing.T) {
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
