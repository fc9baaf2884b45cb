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

// A job is one delivery that a worker handles.
type job struct {
	raw      amqp.Delivery
	delivery *Delivery // nil between two jobs
	attempt  int
	inPlace  bool      // the broker does not count its attempts: the consumer does
	began    time.Time // when the worker took it
	tried    time.Time // when its handler was called last
	until    time.Time // when tries in place must end; zero before the first failure
	tries    int       // tries in place since until was set
	givenUp  bool      // the consumer stopped or the subscription ended while it waited
	alone    bool      // the handler is still to be called, with this message alone
	verdict  Verdict   // set when it was settled together with others; to be reported
	out      outcome
	watch    *watch // of the worker
}

// An outcome is what a handler's error says. The error is read once; after that its methods,
// which are user code, are not called again.
type outcome struct {
	failed    bool
	text      string        // of the error, at most maxReason bytes of UTF-8
	permanent bool          // Permanent
	done      bool          // failed, but is to be acknowledged
	away      bool          // Unavailable
	back      bool          // GiveBack
	pause     time.Duration // of UnavailableFor or GiveBack
	inPlace   bool          // RetryInPlace
	stopping  bool          // because of ErrStopping
}

// A hand has the jobs that a worker has taken together. A job in it has a delivery until it is
// settled.
type hand struct {
	jobs  []job
	watch *watch
}

// startWorker handles deliveries on a goroutine of its own, until the subscription ends or
// drains. When user code ends that goroutine, a new one continues with the same jobs.
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

// receive takes the next delivery, and for a batch those after it. At the end, deliveries in
// the library's buffer are left for drain, or for the broker to deliver again.
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

// tellDelivered tells observers of a delivery. When one of them ends this goroutine the attempt
// has failed.
func (s *subscription) tellDelivered(j *job) {
	to := s.conn.config.observers
	if len(to.deliver) == 0 {
		return
	}
	j.out = outcome{failed: true, text: "an observer has ended its goroutine (runtime.Goexit)"}
	tell(to.log, to.deliver, DeliverObserver.OnDeliver, DeliverEvent{Delivery: j.delivery})
	j.out = outcome{}
}

// call calls the handler with its deadline and classifies the error. A panic of the handler or
// of a method of the error is an error like any other, and so is the end of the goroutine
// (runtime.Goexit).
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
	out.away = out.away && (!cut || ctx.Err() == nil) // with a shortened deadline the handler may have had too little time
	j.out = out
}

// crashed is the outcome of a handler that did not return. panicked is nil when it has ended
// its goroutine.
func (s *subscription) crashed(j *job, panicked any) outcome {
	text := "handler ended its goroutine (runtime.Goexit)"
	if panicked != nil {
		text = fmt.Sprintf("handler panicked: %v", panicked)
	}
	s.log.Error("handler crashed", zap.String("message_id", j.delivery.ID), zap.String("type", j.delivery.Type),
		zap.String("error", clean(text)), zap.ByteString("stack", debug.Stack()))
	return outcome{failed: true, text: clean(text)}
}

// maxErrors is how many errors an error may wrap in all: with an error that wraps itself
// errors.As would never end.
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

// countErrors counts an error and all that it wraps. It returns false when there are too many.
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
