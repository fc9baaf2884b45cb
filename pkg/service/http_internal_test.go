package service

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A caller can hold a connection for so long and no longer, whatever it does.
func TestEveryWaitOfTheServerIsBounded(t *testing.T) {
	t.Parallel()
	s, err := Listen("127.0.0.1:0", http.NewServeMux(), NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.closeListener()) })
	for name, wait := range map[string]time.Duration{
		"ReadHeaderTimeout": s.http.ReadHeaderTimeout,
		"ReadTimeout":       s.http.ReadTimeout,
		"WriteTimeout":      s.http.WriteTimeout, // longer than any handler of ours takes
		"IdleTimeout":       s.http.IdleTimeout,
	} {
		require.Positive(t, wait, name)
		require.LessOrEqual(t, wait, time.Minute, name)
	}
	require.LessOrEqual(t, s.http.ReadHeaderTimeout, 5*time.Second)
	require.Equal(t, 16<<10, s.http.MaxHeaderBytes)
}
