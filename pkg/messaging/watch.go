package messaging

import (
	"slices"
	"sync"
	"time"
)

// overdueAfter is how long after its deadline a handler that has not returned is reported.
const overdueAfter = time.Second

// A watch reports handlers that ignore their deadline, for one worker. It notes each call, and
// when one is overdue it tells observers, once for each delivery.
type watch struct {
	tell func(OverdueEvent)

	mu       sync.Mutex
	running  bool
	tag      uint64       // of the delivery
	about    OverdueEvent // the event, without the time
	began    time.Time
	due      time.Time   // when it is overdue; zero for never
	reported uint64      // the tag of the delivery that was reported last
	timer    *time.Timer // nil before the first deadline
	fires    time.Time   // when the timer fires; zero when it has fired
	over     bool
}

// begin notes that the handler is called. The timer goes on from one call to the next, so
// that a handler that returns in time needs no new timer.
func (w *watch) begin(j *job, queue string, timeout time.Duration, deadline time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.began, w.tag = true, j.tried, j.raw.DeliveryTag
	w.about = OverdueEvent{
		Queue: queue, MessageID: j.raw.MessageId, Type: j.raw.Type, CorrelationID: j.raw.CorrelationId,
		Attempt: j.attempt, Timeout: timeout,
	}
	w.due = time.Time{}
	if deadline.IsZero() || w.reported == w.tag {
		return
	}
	w.due = deadline.Add(overdueAfter)
	if w.fires.IsZero() || w.due.Before(w.fires) {
		w.set()
	}
}

// set lets the timer fire when the handler is overdue.
func (w *watch) set() {
	w.fires = w.due
	left := time.Until(w.due)
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.look)
	} else {
		w.timer.Reset(left)
	}
}

// end notes that the handler has returned.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
}

// look reports the handler if it is overdue.
func (w *watch) look() {
	w.mu.Lock()
	w.fires = time.Time{}
	if w.over || !w.running || w.due.IsZero() {
		w.mu.Unlock()
		return
	}
	if time.Now().Before(w.due) { // the timer was set for an earlier call
		w.set()
		w.mu.Unlock()
		return
	}
	e := w.about
	e.Running = time.Since(w.began)
	w.due, w.reported = time.Time{}, w.tag
	w.mu.Unlock()
	w.tell(e)
}

// stopWatches stops the timers.
func stopWatches(watches []*watch) {
	for _, w := range watches {
		w.mu.Lock()
		w.over = true
		if w.timer != nil {
			w.timer.Stop()
		}
		w.mu.Unlock()
	}
}

// id is the id of the message that is being handled, if there is one.
func (w *watch) id() (id string, running bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.about.MessageID, w.running
}

// handling gives the ids of the messages whose handlers run.
func handling(watches []*watch) []string {
	var ids []string
	for _, w := range watches {
		if id, running := w.id(); running {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
