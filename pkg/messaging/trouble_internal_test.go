package messaging

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// What fails for ever is not logged for ever.
func TestTroubleIsLoggedOnce(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	trouble := trouble{log: zap.New(core), fails: "it ended", works: "it works"}
	texts := func() (all []string) {
		for _, e := range logs.TakeAll() {
			all = append(all, fmt.Sprint(e.Message, " ", e.ContextMap()["error"], " ", e.ContextMap()["failures"]))
		}
		return all
	}
	trouble.over()
	require.Empty(t, texts())
	for range 1000 {
		trouble.note(errors.New("no queue"))
	}
	trouble.note(errors.New("no right"))
	trouble.note(errors.New("read 10.0.0.1:5000->10.0.0.2:5672: reset"))
	trouble.note(errors.New("read 10.0.0.1:5001->10.0.0.2:5672: reset"))
	trouble.over()
	require.Equal(t, []string{
		"it ended no queue 1", "it ended no right 1001",
		"it ended read 10.0.0.1:5000->10.0.0.2:5672: reset 1002", "it works <nil> 1003",
	}, texts())
	for range 1000 { // it comes and goes
		trouble.note(errors.New("no queue"))
		trouble.over()
	}
	require.Empty(t, texts())
	for i := range 1000 { // with a port, say
		trouble.note(fmt.Errorf("reason %d", i))
	}
	require.Len(t, texts(), maxReasons-3)
	trouble.logged = trouble.logged.Add(-remindAfter)
	trouble.note(errors.New("no queue"))
	require.Equal(t, []string{"it ended no queue 2001"}, texts())
}
