package messaging_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

// Mistakes in the program are found when it starts.
func TestMuxRefuses(t *testing.T) {
	t.Parallel()
	ignore := messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil })
	kind := messaging.MessageType{Name: "charge.v1", Owner: "orders"}
	mux := messaging.NewMux("")
	mux.Handle(kind, ignore)
	other := kind
	other.Owner = "billing"
	require.PanicsWithValue(t, `messaging: Mux.Handle: a second handler of "charge.v1"`, func() { mux.Handle(other, ignore) })
	kind.Name = "refund.v1"
	require.PanicsWithValue(t, `messaging: Mux.Handle: the handler of "refund.v1" is nil`, func() { mux.Handle(kind, nil) })
	require.PanicsWithValue(t, `messaging: Mux.Handle: the handler of "refund.v1" is nil`, func() { mux.Handle(kind, messaging.HandlerFunc(nil)) })
	mux.Handle(kind, ignore)
}

func TestMux(t *testing.T) {
	t.Parallel()
	kind := messaging.MessageType{Name: "charge.v1", Exchange: "commands", Owner: "orders"}
	mux := messaging.NewMux("operator")
	mux.Handle(kind, messaging.JSON(func(_ context.Context, _ *messaging.Delivery, body struct{ Amount int }) error {
		if body.Amount != 7 {
			return errors.New("wrong body")
		}
		return nil
	}))
	valid := func() *messaging.Delivery {
		return &messaging.Delivery{
			Message:  messaging.Message{Type: "charge.v1", UserID: "orders", ContentType: "application/json", Body: []byte(`{"Amount":7,"extra":1}`)},
			Exchange: "commands",
		}
	}
	cases := map[string]struct {
		change func(d *messaging.Delivery)
		want   error
	}{
		"valid":                        {func(*messaging.Delivery) {}, nil},
		"replayed":                     {func(d *messaging.Delivery) { d.UserID, d.Exchange = "operator", "" }, nil},
		"replayed through its own":     {func(d *messaging.Delivery) { d.UserID = "operator" }, nil},
		"unknown type":                 {func(d *messaging.Delivery) { d.Type = "charge.v9" }, messaging.ErrUnknownType},
		"no user":                      {func(d *messaging.Delivery) { d.UserID = "" }, messaging.ErrUntrustedSource},
		"another user":                 {func(d *messaging.Delivery) { d.UserID = "notifier" }, messaging.ErrUntrustedSource},
		"owner past its exchange":      {func(d *messaging.Delivery) { d.Exchange = "" }, messaging.ErrUntrustedSource},
		"operator by a third exchange": {func(d *messaging.Delivery) { d.UserID, d.Exchange = "operator", "other" }, messaging.ErrUntrustedSource},
		"undecodable":                  {func(d *messaging.Delivery) { d.Body = []byte("{") }, messaging.ErrUndecodable},
		"another content type":         {func(d *messaging.Delivery) { d.ContentType = "text/plain" }, messaging.ErrUndecodable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := valid()
			c.change(d)
			err := mux.Handler().Handle(t.Context(), d)
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
			require.True(t, messaging.IsPermanent(err))
		})
	}
}

// With AnyOwner every user may send the type; the exchange is checked all the same.
func TestMuxTakesATypeOfAnyOwner(t *testing.T) {
	t.Parallel()
	mux := messaging.NewMux("operator")
	kind := messaging.MessageType{Name: "reading.v1", Exchange: "readings", Owner: messaging.AnyOwner}
	mux.Handle(kind, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }))
	for user, exchanges := range map[string]map[string]bool{
		"":         {"readings": true, "": false, "other": false},
		"somebody": {"readings": true, "": false, "other": false},
		"operator": {"readings": true, "": true, "other": false},
	} {
		for exchange, taken := range exchanges {
			err := mux.Handler().Handle(t.Context(), &messaging.Delivery{Message: messaging.Message{Type: kind.Name, UserID: user}, Exchange: exchange})
			require.Equal(t, taken, err == nil, "%q by %q", user, exchange)
		}
	}
}
