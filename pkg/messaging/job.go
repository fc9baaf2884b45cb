package messaging

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// A job is one delivery in the hands of a worker.
type job struct {
	raw      amqp.Delivery
	delivery *Delivery // nil between two jobs
	attempt  int
	inPlace  bool      // the broker does not count its attempts: the consumer does
	began    time.Time // when it was taken
	tried    time.Time // when its handler was called last
	until    time.Time // no try in place lasts longer; zero before the first failure
	tries    int       // in place, since until was set
	givenUp  bool      // the consumer stops, or the subscription has ended, while it waited
	alone    bool      // the handler is still to be called, for it alone
	verdict  Verdict   // of one that was settled together with others, and is to be reported
	out      outcome
	watch    *watch // the worker's
}

// An outcome is what a handler's error says, read once: the rest works with these
// plain values and never calls the error again.
type outcome struct {
	failed    bool
	text      string        // of the error, at most maxReason bytes of UTF-8
	permanent bool          // Permanent
	done      bool          // failed, and to be acknowledged all the same
	away      bool          // Unavailable
	back      bool          // GiveBack
	pause     time.Duration // the least that UnavailableFor asks for, or what GiveBack does
	inPlace   bool          // RetryInPlace
	stopping  bool          // because of ErrStopping
}

// A hand is what a worker has taken together. A job in it has a delivery until it is
// settled.
type hand struct {
	jobs  []job
	watch *watch
}

// startWorker handles deliveries on a goroutine of its own, until the subscription
// ends or drains. When user code ends that goroutine, another one goes on where it was.
func (s *subscription) startWorker(ctx context.Context, h *hand) {
	s.workers.Go(func() {
		finished := false
		defer func() {
			if !finished {
				s.startWorker(ctx, h)
			}
		}()
		s.finishAll(ctx, h.jobs)
		for s.receive(h) {
			s.callAll(ctx, h.jobs)
			s.finishAll(ctx, h.jobs)
		}
		finished = true
	})
}

// receive takes the next delivery, and for a batch those behind it. What the library
// still buffers at the end is left to drain, or to the broker.
func (s *subscription) receive(h *hand) bool {
	h.jobs = h.jobs[:0]
	if isDone(s.stop) || isDone(s.draining) {
		return false
	}
	if j, ok := s.next(); ok {
		j.watch = h.watch
		h.jobs = append(h.jobs, j)
		return true
	}
	select {
	case <-s.stop:
		return false
	case d, ok := <-s.deliveries:
		if !ok {
			return false
		}
		s.held.begin()
		s.take(h, d)
		s.gather(h)
		return true
	}
}

// take makes a job of a delivery.
func (s *subscription) take(h *hand, d amqp.Delivery) {
	delivery := newDelivery(d, s.queueName)
	var counted bool
	delivery.Attempt, delivery.Acquired, counted = s.queue.counts(d)
	h.jobs = append(h.jobs, job{
		raw: d, delivery: delivery, attempt: delivery.Attempt, inPlace: !counted && s.retries.window == 0,
		began: time.Now(), alone: true, watch: h.watch,
	})
	s.tellDelivered(&h.jobs[len(h.jobs)-1])
}

// tellDelivered tells observers of a delivery. One that ends this goroutine has made the
// attempt fail.
func (s *subscription) tellDelivered(j *job) {
	to := s.conn.config.observers
	if len(to.deliver) == 0 {
		return
	}
	j.out = outcome{failed: true, text: "an observer has ended its goroutine (runtime.Goexit)"}
	tell(to.log, to.deliver, DeliverObserver.OnDeliver, DeliverEvent{Delivery: j.delivery})
	j.out = outcome{}
}

// call calls the handler with its deadline, and reads the error that it returns. This is
// where user code runs: a panic is an error like any other, also one of a method of the
// returned error, and so is the end of the goroutine (runtime.Goexit).
func (s *subscription) call(ctx context.Context, j *job) {
	j.alone = false
	j.tried = time.Now()
	timeout, cut := s.config.timeout, false
	if left := j.until.Sub(j.tried); !j.until.IsZero() && (timeout == 0 || left < timeout) {
		timeout, cut = left, true
	}
	var deadline time.Time
	if cut || timeout > 0 {
		deadline = j.tried.Add(timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	j.watch.begin(j, s.queueName, timeout, deadline)
	defer j.watch.end()
	returned := false
	defer func() {
		if returned {
			return
		}
		j.out = s.crashed(j, recover())
	}()
	out := classify(s.handle(ctx, j.delivery))
	returned = true
	out.away = out.away && (!cut || ctx.Err() == nil) // else it had too little time to know
	j.out = out
}

// crashed is the outcome of a handler that did not return. Go gives no panic for one
// that has ended its goroutine.
func (s *subscription) crashed(j *job, panicked any) outcome {
	text := "handler ended its goroutine (runtime.Goexit)"
	if panicked != nil {
		text = fmt.Sprintf("handler panicked: %v", panicked)
	}
	s.log.Error("handler crashed", zap.String("message_id", j.delivery.ID), zap.String("type", j.delivery.Type),
		zap.String("error", clean(text)), zap.ByteString("stack", debug.Stack()))
	return outcome{failed: true, text: clean(text)}
}

// maxErrors bounds how many errors an error may wrap, in all: one that wraps itself
// would keep errors.As busy for ever.
const maxErrors = 1000

// classify reads an error. It may panic, since the methods of the error are user code.
func classify(err error) outcome {
	if err == nil {
		return outcome{}
	}
	o := outcome{failed: true, text: clean(fmt.Sprintf("%v", err))}
	if left := maxErrors; !countErrors(err, &left) {
		return o
	}
	o.permanent = IsPermanent(err)
	o.stopping = errors.Is(err, ErrStopping)
	var d *doneError
	o.done = errors.As(err, &d)
	var u *unavailableError
	var b *givenBackError
	var again *retryInPlaceError
	switch {
	case o.permanent, o.done:
	case errors.As(err, &u):
		o.away, o.pause = true, u.pause
	case errors.As(err, &b):
		o.back, o.pause = true, b.after
	case errors.As(err, &again):
		o.inPlace = true
	}
	return o
}

// countErrors counts an error and all that it wraps, and says false when there are too many.
func countErrors(err error, left *int) bool {
	if err == nil {
		return true
	}
	if *left--; *left < 0 {
		return false
	}
	switch wrapped := err.(type) { //nolint:errorlint // it is the tree that is walked
	case interface{ Unwrap() error }:
		return countErrors(wrapped.Unwrap(), left)
	case interface{ Unwrap() []error }:
		for _, e := range wrapped.Unwrap() {
			if !countErrors(e, left) {
				return false
			}
		}
	}
	return true
}

// clean makes a text fit for a header and a log line.
func clean(text string) string {
	return truncate(strings.ToValidUTF8(text, "\uFFFD"), maxReason)
}
