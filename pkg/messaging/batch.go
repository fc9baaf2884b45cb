package messaging

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// BatchHandler handles several deliveries of one queue at once, for example in one
// database transaction. It gets the messages that are there, in the order of the queue: at
// least one, and at most the size that [Conn.ConsumeBatch] was called with.
//
// nil means that all are done. With [BatchErrors] each delivery has an error of its own; see
// [Handler] for the meaning of each. Any other error is about the batch:
//
//	Unavailable(err)                 all are given back, and the consumer pauses
//	GiveBack(err, after)             all are given back
//	an error because of ErrStopping  all are given back
//	any other error, a panic,        each is handled again, alone in a batch of one, so that
//	a deadline, Permanent(err)       one message does not make the others fail
//
// To handle them alone is still the same attempt. So a handler must undo what it did before
// it returns an error for the batch, for example by the rollback of a transaction.
//
// On a queue with a single active consumer each message is settled before a later one is
// handled again. A handler that returns an error for one message of the batch should return
// one for all later messages too.
//
// The handler may keep the deliveries. It must not change the slice.
type BatchHandler interface {
	HandleBatch(ctx context.Context, batch []*Delivery) error
}

// BatchHandlerFunc makes a function a BatchHandler.
type BatchHandlerFunc func(ctx context.Context, batch []*Delivery) error

// HandleBatch calls f.
func (f BatchHandlerFunc) HandleBatch(ctx context.Context, batch []*Delivery) error {
	return f(ctx, batch)
}

// BatchErrors has an error for each delivery of a batch, in the same order; nil means that
// the delivery is done. If its length is not that of the batch it is an error about the
// whole batch.
type BatchErrors []error

// Error has the number of errors and the text of the first one.
func (e BatchErrors) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return fmt.Sprintf("none of %d failed", len(e))
	}
	return fmt.Sprintf("%d of %d failed, the first one with: %v", failed, len(e), first)
}

// Unwrap gives the errors that are not nil.
func (e BatchErrors) Unwrap() []error {
	var errs []error
	for _, err := range e {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// collect buffers deliveries, so that a worker sees how many are there: the library's channel
// has no buffer. The buffer is as large as the prefetch, and the broker sends no more than
// that, so the goroutine never blocks and ends with the subscription's channel.
func (s *subscription) collect(from <-chan amqp.Delivery) <-chan amqp.Delivery {
	to := make(chan amqp.Delivery, s.prefetch)
	go func() {
		defer close(to)
		for d := range from {
			to <- d
		}
	}()
	return to
}

// gather takes the deliveries that are there after the first one, and waits for more as long
// as linger says. A probe takes one message at a time.
func (s *subscription) gather(h *hand) {
	if s.held.probe > 0 {
		return
	}
	var over <-chan time.Time
	for len(h.jobs) < s.config.size {
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return
			}
			s.take(h, d)
			continue
		default:
		}
		if s.config.linger == 0 {
			return
		}
		if over == nil {
			timer := time.NewTimer(s.config.linger)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return
			}
			s.take(h, d)
		case <-over:
			return
		case <-s.stop:
			return
		case <-s.draining:
			return
		}
	}
}

// handle calls the handler for one delivery.
func (s *subscription) handle(ctx context.Context, d *Delivery) error {
	if s.batch == nil {
		return s.handler.Handle(ctx, d)
	}
	err := s.batch.HandleBatch(ctx, []*Delivery{d})
	if each, ok := err.(BatchErrors); ok && len(each) == 1 { //nolint:errorlint // what it wraps is user code
		return each[0]
	}
	return err
}

// callAll calls the handler for all jobs of a hand. A single job that has an outcome already
// was held and has failed alone: it is only to be settled.
func (s *subscription) callAll(ctx context.Context, jobs []job) {
	switch {
	case len(jobs) > 1:
		s.callBatch(ctx, jobs)
	case !jobs[0].out.failed:
		s.call(ctx, &jobs[0])
	}
}

// callBatch calls the handler for a batch, and reads the error that it returns, as
// [subscription.call] does. When the batch has failed each job is to be handled alone.
func (s *subscription) callBatch(ctx context.Context, jobs []job) {
	now, timeout := time.Now(), s.config.timeout
	batch := make([]*Delivery, len(jobs))
	for i := range jobs {
		jobs[i].tried = now
		batch[i] = jobs[i].delivery
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = now.Add(timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	w := jobs[0].watch
	w.begin(&jobs[0], s.queueName, timeout, deadline)
	defer w.end()
	returned := false
	defer func() {
		if !returned {
			s.crashed(&jobs[0], recover())
		}
	}()
	outs, whole := classifyBatch(s.batch.HandleBatch(ctx, batch), len(jobs))
	returned = true
	if whole.failed && !whole.away && !whole.back && !whole.stopping {
		s.log.Warn("batch failed, its messages are handled alone", zap.Int("messages", len(jobs)), zap.String("error", whole.text))
		return
	}
	for i := range jobs {
		jobs[i].alone, jobs[i].out = false, whole
		if outs != nil {
			jobs[i].out = outs[i]
		}
	}
}

// classifyBatch reads the error of a batch of n: one outcome for each of them, or one for all.
func classifyBatch(err error, n int) (outs []outcome, whole outcome) {
	each, ok := err.(BatchErrors) //nolint:errorlint // what it wraps is user code
	if !ok || len(each) != n {
		return nil, classify(err)
	}
	outs = make([]outcome, n)
	for i, err := range each {
		outs[i] = classify(err)
	}
	return outs, outcome{}
}

// finishAll settles the jobs of a hand: those that are done with one acknowledgement. On a
// queue that keeps order they are settled one after the other. On other queues the failed
// ones come last, since they may take long.
func (s *subscription) finishAll(ctx context.Context, jobs []job) {
	if len(jobs) > 1 && !s.keepsOrder {
		s.acknowledge(jobs)
		for i := range jobs {
			if jobs[i].verdict != "" {
				s.finishOne(ctx, &jobs[i])
			}
		}
	}
	for i := range jobs {
		if len(jobs) > 1 && jobs[i].succeeded() {
			s.acknowledge(jobs[i : i+run(jobs[i:])])
		}
		s.finishOne(ctx, &jobs[i])
	}
}

// finishOne settles a job, if it is not settled yet, and reports the verdict.
func (s *subscription) finishOne(ctx context.Context, j *job) {
	switch {
	case j.delivery == nil:
		return
	case j.verdict != "":
		s.settled(j)
		s.report(j, j.verdict)
		return
	case j.alone && !j.out.failed:
		s.callAlone(ctx, j)
	}
	s.finish(ctx, j)
}

// callAlone calls the handler for one message of a batch that has failed, unless the
// subscription ends.
func (s *subscription) callAlone(ctx context.Context, j *job) {
	if isDone(s.stop) || isDone(s.draining) {
		j.alone, j.givenUp, j.out = false, true, outcome{failed: true, text: "its batch failed while the subscription ended"}
		return
	}
	s.call(ctx, j)
}

// acknowledge acknowledges the jobs that have succeeded, with one frame if possible.
func (s *subscription) acknowledge(jobs []job) {
	var tags []uint64
	for i := range jobs {
		if jobs[i].succeeded() {
			tags = append(tags, jobs[i].raw.DeliveryTag)
		}
	}
	if len(tags) == 0 {
		return
	}
	verdict := Stale
	if !isDone(s.ended) {
		verdict = s.done(s.ack(tags...), Acked)
	}
	for i := range jobs {
		if jobs[i].succeeded() {
			jobs[i].verdict = verdict
		}
	}
}

// run is how many jobs at the beginning have succeeded.
func run(jobs []job) int {
	n := 0
	for n < len(jobs) && jobs[n].succeeded() {
		n++
	}
	return n
}

// succeeded says whether a job was handled without an error and is not settled yet.
func (j *job) succeeded() bool {
	return j.delivery != nil && j.verdict == "" && !j.alone && !j.out.failed
}
