package transactional_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/transactional"
)

func deliveries(ids ...string) []*messaging.Delivery {
	batch := make([]*messaging.Delivery, len(ids))
	for i, id := range ids {
		batch[i] = delivery(id, "")
	}
	return batch
}

func TestBatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var got [][]string
	h := f.Batch(func(ctx context.Context, tx *transactional.Tx, batch []*messaging.Delivery) error {
		var ids []string
		for _, d := range batch {
			ids = append(ids, d.ID)
			if err := write(ctx, tx, d); err != nil {
				return err
			}
		}
		tx.OnCommit(func() { got = append(got, ids) })
		return nil
	})
	for _, batch := range [][]string{nil, {"c", "a", "b"}, {"a", "d", "c", "d"}, {"d", "a"}} {
		require.NoError(t, h.HandleBatch(t.Context(), deliveries(batch...)))
	}
	require.Equal(t, [][]string{{"c", "a", "b"}, {"d"}}, got, "in their order, each once")
	f.requireRows(t, 4, 4, 4)
	require.Equal(t, 2, f.commits, "what has no effect wakes nobody")
	require.Equal(t, 5, f.logs.FilterMessage("message was handled before, nothing to do").Len())
}

// A batch that fails has had no effect; each of its messages can be handled alone.
func TestABatchThatFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	poison := errors.New("poison")
	h := f.Batch(func(ctx context.Context, tx *transactional.Tx, batch []*messaging.Delivery) error {
		for _, d := range batch {
			if d.ID == "b" {
				return messaging.Permanent(poison)
			}
			if err := write(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		name string
		ids  []string
		want error
	}{
		{"by its effect", []string{"a", "b", "c"}, poison},
		{"by a message without an id", []string{"a", "", "c"}, inbox.ErrNoID},
		{"by an id that cannot be kept", []string{"a", "x\x00", "c"}, nil},
	} {
		err := h.HandleBatch(t.Context(), deliveries(c.ids...))
		require.Error(t, err, c.name)
		require.True(t, messaging.IsPermanent(err), c.name)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, c.name)
		}
		f.requireRows(t, 0, 0, 0)
	}
	require.Zero(t, f.commits)

	for id, want := range map[string]error{"a": nil, "b": poison, "c": nil} {
		require.ErrorIs(t, h.HandleBatch(t.Context(), deliveries(id)), want)
	}
	f.requireRows(t, 2, 2, 2)
}

// A batch by handlers of single messages, of several types, is one transaction.
func TestEach(t *testing.T) {
	t.Parallel()
	f := setup(t)
	poison := errors.New("poison")
	mux := messaging.NewMux("")
	mux.Handle(messaging.MessageType{Name: "plain.v1"}, f.Handler(write))
	mux.Handle(messaging.MessageType{Name: "json.v1"}, transactional.JSON(f.DB,
		func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, body string) error {
			if body == "bad" {
				return poison
			}
			return write(ctx, tx, d)
		}))
	mux.Handle(messaging.MessageType{Name: "once.v1"}, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		first, err := f.Once(ctx, d.Queue, d.ID, func(tx *transactional.Tx) error { return write(ctx, tx, d) })
		require.True(t, first)
		return err
	}))
	of := func(kind, id, body string) *messaging.Delivery {
		d := delivery(id, body)
		d.Type = kind
		return d
	}
	h := f.Each(mux.Handler())
	batch := []*messaging.Delivery{of("plain.v1", "a", ""), of("json.v1", "b", `"good"`), of("once.v1", "c", ""), of("json.v1", "d", `"bad"`)}
	require.ErrorIs(t, h.HandleBatch(t.Context(), batch), poison)
	f.requireRows(t, 0, 0, 0)
	require.NoError(t, h.HandleBatch(t.Context(), batch[:3]))
	f.requireRows(t, 3, 3, 3)
	require.Equal(t, 1, f.commits)
	require.NoError(t, h.HandleBatch(t.Context(), batch[1:3]), "copies")
	require.ErrorIs(t, h.HandleBatch(t.Context(), batch[3:]), poison, "alone")
	f.requireRows(t, 3, 3, 3)
	require.Nil(t, f.Each(nil))
}
