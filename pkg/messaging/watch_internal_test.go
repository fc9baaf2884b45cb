package messaging

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// A call of a handler, as a worker makes it.
func begin(w *watch, tag uint64, timeout time.Duration) {
	j := &job{raw: amqp.Delivery{DeliveryTag: tag, MessageId: "id", Type: "work.v1"}, attempt: 2, tried: time.Now()}
	var deadline time.Time
	if timeout > 0 {
		deadline = j.tried.Add(timeout)
	}
	w.begin(j, "jobs", timeout, deadline)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls func(w *watch)
		want  []time.Duration // for how long those have run that were told of
	}{
		"in time": {func(w *watch) {
			begin(w, 1, 10*time.Second)
			<-time.After(9 * time.Second)
			w.end()
		}, nil},
		"a little late": {func(w *watch) {
			begin(w, 1, 10*time.Second)
			<-time.After(10*time.Second + overdueAfter - 1)
			w.end()
		}, nil},
		"late": {func(w *watch) {
			begin(w, 1, 10*time.Second)
			<-time.After(time.Minute)
			w.end()
		}, []time.Duration{11 * time.Second}},
		"no deadline": {func(w *watch) {
			begin(w, 1, 0)
			<-time.After(time.Hour)
			w.end()
		}, nil},
		"the same message is late again": {func(w *watch) {
			for range 3 {
				begin(w, 1, 10*time.Second)
				<-time.After(time.Minute)
				w.end()
			}
		}, []time.Duration{11 * time.Second}},
		"two messages are late": {func(w *watch) {
			for tag := range uint64(2) {
				begin(w, 1+tag, 10*time.Second)
				<-time.After(time.Minute)
				w.end()
			}
		}, []time.Duration{11 * time.Second, 11 * time.Second}},
		"one of many, the timer runs on": {func(w *watch) {
			for range 25 {
				begin(w, 1, 10*time.Second)
				<-time.After(time.Second)
				w.end()
			}
			begin(w, 2, 10*time.Second)
			<-time.After(time.Minute)
			w.end()
		}, []time.Duration{11 * time.Second}},
		"a shorter deadline after a longer one": {func(w *watch) {
			begin(w, 1, time.Hour)
			w.end()
			begin(w, 2, time.Second)
			<-time.After(time.Minute)
			w.end()
		}, []time.Duration{2 * time.Second}},
		"the subscription ends before": {func(w *watch) {
			begin(w, 1, 10*time.Second)
			stopWatches([]*watch{w})
			<-time.After(time.Minute)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // each timer has a goroutine of its own
				var got []OverdueEvent
				w := &watch{tell: func(e OverdueEvent) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, e)
				}}
				c.calls(w)
				stopWatches([]*watch{w})
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, got, len(c.want))
				for i, running := range c.want {
					require.Equal(t, running, got[i].Running)
					require.Equal(t, "jobs", got[i].Queue)
					require.Equal(t, "id", got[i].MessageID)
					require.Equal(t, 2, got[i].Attempt)
				}
			})
		})
	}
}

func TestHandling(t *testing.T) {
	t.Parallel()
	busy, idle := &watch{}, &watch{}
	begin(busy, 1, 0)
	begin(idle, 2, 0)
	idle.end()
	require.Equal(t, []string{"id"}, handling([]*watch{busy, idle}))
	require.Empty(t, handling(nil))
	c := &Consumer{watches: []*watch{idle}}
	require.Equal(t, "no handler is running, the broker does not answer", c.busyWith())
	for range 7 {
		c.watches = append(c.watches, busy)
	}
	require.Equal(t, "still being handled: id, id, id, id, id and 2 more", c.busyWith())
}
