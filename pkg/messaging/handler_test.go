package messaging_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

func TestChain(t *testing.T) {
	t.Parallel()
	var order []string
	layer := func(name string) messaging.Middleware {
		return func(next messaging.Handler) messaging.Handler {
			return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
				order = append(order, "into "+name)
				err := next.Handle(ctx, d)
				order = append(order, "out of "+name)
				return err
			})
		}
	}
	failed := errors.New("failed")
	h := messaging.Chain(messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		order = append(order, "handle")
		return failed
	}), layer("outer"), layer("inner"))
	require.ErrorIs(t, h.Handle(t.Context(), &messaging.Delivery{}), failed)
	require.Equal(t, []string{"into outer", "into inner", "handle", "out of inner", "out of outer"}, order)
}
