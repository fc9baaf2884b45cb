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
	out      outcome
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

// startWorker handles deliveries on a goroutine of its own, until the subscription
// ends or drains. When user code ends that goroutine, another one goes on where it was.
func (s *subscription) startWorker(ctx context.Context, j *job) {
	s.workers.Go(func() {
		finished := false
		defer func() {
			if !finished {
				s.startWorker(ctx, j)
			}
		}()
		if j.delivery != nil {
			s.finish(ctx, j)
		}
		for s.receive(j) {
			if !j.out.failed { // else it was held, and has failed alone
				s.call(ctx, j)
			}
			s.finish(ctx, j)
		}
		finished = true
	})
}

// receive takes the next delivery. What the library still buffers at the end is left to
// drain, or to the broker.
func (s *subscription) receive(j *job) bool {
	if isDone(s.stop) || isDone(s.draining) {
		return false
	}
	if s.next(j) {
		return true
	}
	select {
	case <-s.stop:
		return false
	case d, ok := <-s.deliveries:
		if !ok {
			return false
		}
		delivery := newDelivery(d, s.queueName)
		var counted bool
		delivery.Attempt, delivery.Acquired, counted = s.queue.counts(d)
		*j = job{raw: d, delivery: delivery, attempt: delivery.Attempt, inPlace: !counted && s.retries.window == 0, began: time.Now()}
		s.doubt.begin()
		return true
	}
}

// call calls the handler with its deadline, and reads the error that it returns. This is
// where user code runs: a panic is an error like any other, also one of a method of the
// returned error, and so is the end of the goroutine (runtime.Goexit).
func (s *subscription) call(ctx context.Context, j *job) {
	j.tried = time.Now()
	deadline := j.tried.Add(s.timeout)
	cut := !j.until.IsZero() && j.until.Before(deadline)
	if cut {
		deadline = j.until
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	returned := false
	defer func() {
		if returned {
			return
		}
		j.out = s.crashed(j, recover())
	}()
	out := judge(s.handler.Handle(ctx, j.delivery))
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

// judge reads an error. It may panic, since the methods of the error are user code.
func judge(err error) outcome {
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
