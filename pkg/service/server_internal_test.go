package service

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// The limits of how long a client can hold a connection.
func TestEveryWaitOfTheServerIsBounded(t *testing.T) {
	t.Parallel()
	s, err := NewServer(t.Context(), "orders", HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}, zap.NewNop(), NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.public.close(), s.admin.close())) })
	for _, p := range []*port{s.public, s.admin} {
		for name, wait := range map[string]time.Duration{
			"ReadHeaderTimeout": p.http.ReadHeaderTimeout,
			"ReadTimeout":       p.http.ReadTimeout,
			"WriteTimeout":      p.http.WriteTimeout, // longer than any handler of ours takes
			"IdleTimeout":       p.http.IdleTimeout,
		} {
			require.Positive(t, wait, name)
			require.LessOrEqual(t, wait, 2*time.Minute, name)
		}
		require.LessOrEqual(t, p.http.ReadHeaderTimeout, 5*time.Second)
		require.Equal(t, 16<<10, p.http.MaxHeaderBytes)
	}
	require.LessOrEqual(t, s.public.http.WriteTimeout, time.Minute)
}
