package messagingtest

import (
	"context"
	"errors"
	"testing"

	"example.com/orderflow/pkg/messaging"
)

// FuzzJSON fuzzes the decoder of a consumer's struct, beginning with the seeds. It requires
// that the handler gets only values that satisfy the struct's own Validate, and that every
// other body is a permanent error with [messaging.ErrUndecodable]. handled may check the
// values that the handler gets; it may be nil.
func FuzzJSON[T interface{ Validate() error }](f *testing.F, handled func(t *testing.T, body T), seeds ...[]byte) {
	f.Helper()
	for _, seed := range seeds {
		f.Add("application/json", seed)
		f.Add("application/json", seed[:len(seed)/2])
		f.Add("text/plain", seed)
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		called := false
		handler := messaging.JSON(func(_ context.Context, _ *messaging.Delivery, got T) error {
			called = true
			if err := got.Validate(); err != nil {
				t.Fatalf("handled although %v", err)
			}
			if handled != nil {
				handled(t, got)
			}
			return nil
		})
		err := handler.Handle(t.Context(), &messaging.Delivery{Message: messaging.Message{ContentType: contentType, Body: body}})
		switch {
		case called && err != nil:
			t.Fatalf("handled, and %v", err)
		case !called && (!errors.Is(err, messaging.ErrUndecodable) || !messaging.IsPermanent(err)):
			t.Fatalf("not handled, and not refused for good: %v", err)
		}
	})
}
