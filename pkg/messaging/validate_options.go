package messaging

import (
	"errors"
	"fmt"
	"time"
)

// validateListen says what is wrong with a queue for Listen.
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

// validateStream says what is wrong with a stream and an offset. A queue that is not a stream is
// refused, since reading would remove its messages.
func validateStream(q Queue, from Offset) error {
	if q.Type != Stream {
		return fmt.Errorf("messaging: Stream: the queue %.80q is of type %q", q.Name, q.Type)
	}
	if err := q.validate(false); err != nil {
		return fmt.Errorf("messaging: Stream: %w", err)
	}
	if n, isOffset := from.spec.(int64); isOffset && n < 0 {
		return errors.New("messaging: Stream: Offset: must not be negative")
	}
	if at, isTime := from.spec.(time.Time); isTime {
		if err := checkTime(at); err != nil {
			return fmt.Errorf("messaging: Stream: Offset: %w", err)
		}
	}
	return nil
}
