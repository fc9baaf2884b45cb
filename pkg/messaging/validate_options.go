package messaging

import (
	"errors"
	"fmt"
	"time"
)

// validate names the option or the part of the queue's description that is wrong. The
// queue may be described in part, but what is said of it must be right.
func (c *Consumer) validate() error {
	q := c.queue
	if err := q.validate(q.Exclusive); err != nil {
		return fmt.Errorf("messaging: %w", err)
	}
	if err := checkText(c.tag); err != nil {
		return fmt.Errorf("messaging: ConsumerTag: %w", err)
	}
	f, isFunc := c.handler.(HandlerFunc)
	switch {
	case c.handler == nil, isFunc && f == nil:
		return errors.New("messaging: Handler: must not be nil")
	case c.concurrency < 1:
		return errors.New("messaging: Concurrency: must be at least 1")
	case c.prefetch < c.concurrency:
		return errors.New("messaging: Prefetch: must not be below Concurrency")
	case c.prefetch > maxPrefetch:
		return fmt.Errorf("messaging: Prefetch: must not be above %d", maxPrefetch)
	case c.timeout <= 0 || c.timeout > maxWait:
		return fmt.Errorf("messaging: HandlerTimeout: must be positive, and at most %s", maxWait)
	case c.retryInside < 0 || c.retryInside > maxWait:
		return fmt.Errorf("messaging: RetryInProcess: must not be negative, and at most %s", maxWait)
	case c.tenure < 0 || c.tenure > maxWait:
		return fmt.Errorf("messaging: Tenure: must not be negative, and at most %s", maxWait)
	case q.SingleActiveConsumer && c.prefetch != 1:
		return errors.New("messaging: Prefetch: a single active consumer keeps order with 1 only")
	case q.SingleActiveConsumer && c.priority != 0:
		return errors.New("messaging: ConsumerPriority: not for a single active consumer, see its documentation")
	case q.SingleActiveConsumer && c.autoAck:
		return errors.New("messaging: AutoAck: not for a single active consumer, see its documentation")
	case c.exclusive && (q.Type != Classic || q.SingleActiveConsumer):
		return errors.New("messaging: ExclusiveConsumer: for a classic queue without a single active consumer only")
	case !q.SingleActiveConsumer && c.tenure != 0:
		return errors.New("messaging: Tenure: for a single active consumer only")
	case q.ConsumerTimeout > 0 && c.timeout+c.retryInside >= q.ConsumerTimeout:
		return fmt.Errorf("messaging: HandlerTimeout: must, with RetryInProcess, be below the queue's consumer timeout of %s", q.ConsumerTimeout)
	}
	return nil
}

// validateListen names what is wrong with a queue of this process alone.
func validateListen(q Queue, bindings []Binding) error {
	if !q.Exclusive {
		return errors.New("messaging: Listen: the queue must be exclusive")
	}
	for _, b := range bindings {
		err := b.validate()
		if err == nil && (b.Destination != "" || b.ToExchange) {
			err = b.wrong("Destination", "is the queue that listens, and left empty")
		}
		if err != nil {
			return fmt.Errorf("messaging: Listen: %w", err)
		}
	}
	return nil
}

// validate names what is wrong with what is to be read, and from where. A queue that is
// no stream is refused, since reading would take its messages out.
func (s *StreamReader) validate() error {
	if s.queue.Type != Stream {
		return fmt.Errorf("messaging: Stream: the queue %.80q is of type %q", s.queue.Name, s.queue.Type)
	}
	if err := s.queue.validate(false); err != nil {
		return fmt.Errorf("messaging: Stream: %w", err)
	}
	if n, isOffset := s.from.spec.(int64); isOffset && n < 0 {
		return errors.New("messaging: Stream: Offset: must not be negative")
	}
	if at, isTime := s.from.spec.(time.Time); isTime {
		if err := checkTime(at); err != nil {
			return fmt.Errorf("messaging: Stream: Offset: %w", err)
		}
	}
	if s.credit > maxPrefetch {
		return fmt.Errorf("messaging: Credit: must not be above %d", maxPrefetch)
	}
	return nil
}
