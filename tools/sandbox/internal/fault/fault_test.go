package fault_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/tools/sandbox/internal/fault"
)

func TestSwitches(t *testing.T) {
	t.Parallel()
	var s fault.Switches
	require.Empty(t, s.List())
	require.Equal(t, fault.State{}, s.Of(fault.Provider))

	for _, f := range []fault.Fault{
		{Name: "provider.slow", Value: "2s"},
		{Name: "provider.refuse", Value: "500"},
		{Name: "provider.refuse", Value: "401", RetryAfter: "30"}, // again, with another value
		{Name: "provider.accept-broken"},
		{Name: "mail.refuse", Value: "451"},
		{Name: "webhook.down"},
	} {
		require.NoError(t, s.Set(f), f.Name)
	}
	require.Equal(t, fault.State{Slow: 2 * time.Second, Refuse: 401, RetryAfter: "30", AcceptBroken: true}, s.Of(fault.Provider))
	require.Equal(t, fault.State{Refuse: 451}, s.Of(fault.Mail))
	require.Equal(t, fault.State{Down: true}, s.Of(fault.Webhook))
	require.Len(t, s.List(), 5)
	require.Equal(t, "mail.refuse", s.List()[0].Name, "sorted by name")

	require.NoError(t, s.Clear("provider.refuse"))
	require.NoError(t, s.Clear("provider.down"), "a switch that is off stays off")
	require.Equal(t, fault.State{Slow: 2 * time.Second, AcceptBroken: true}, s.Of(fault.Provider))
	s.ClearAll()
	require.Empty(t, s.List())
}

func TestWhatIsNoSwitch(t *testing.T) {
	t.Parallel()
	var s fault.Switches
	require.ErrorIs(t, s.Set(fault.Fault{Name: "provider.sad"}), fault.ErrUnknown)
	require.ErrorIs(t, s.Clear("sandbox.down"), fault.ErrUnknown)
	for _, c := range []struct {
		field string
		fault fault.Fault
	}{
		{"value", fault.Fault{Name: "provider.down", Value: "1"}},
		{"value", fault.Fault{Name: "provider.refuse"}},
		{"value", fault.Fault{Name: "provider.refuse", Value: "200"}},
		{"value", fault.Fault{Name: "provider.refuse", Value: "600"}},
		{"value", fault.Fault{Name: "mail.refuse", Value: "354"}},
		{"value", fault.Fault{Name: "provider.slow", Value: "2"}},
		{"value", fault.Fault{Name: "provider.slow", Value: "0s"}},
		{"value", fault.Fault{Name: "webhook.slow", Value: "31s"}},
		{"retry_after", fault.Fault{Name: "provider.refuse", Value: "503", RetryAfter: "soon"}},
		{"retry_after", fault.Fault{Name: "provider.down", RetryAfter: "1"}},
		{"retry_after", fault.Fault{Name: "mail.refuse", Value: "451", RetryAfter: "1"}},
	} {
		var invalid *fault.InvalidError
		require.ErrorAs(t, s.Set(c.fault), &invalid, "%v", c.fault)
		require.Equal(t, c.field, invalid.Field, "%v", c.fault)
	}
	require.Empty(t, s.List())
	require.Equal(t, []string{
		"mail.down", "mail.refuse", "mail.slow", "provider.accept-broken", "provider.down", "provider.refuse", "provider.slow",
		"webhook.down", "webhook.refuse", "webhook.slow",
	}, fault.Names())
}
