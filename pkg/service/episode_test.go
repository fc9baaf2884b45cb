package service_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/service"
)

func newEpisode(overAfter time.Duration) (*service.Episode, func() []map[string]any) {
	core, logs := observer.New(zap.InfoLevel)
	return service.NewEpisode(zap.New(core), zap.WarnLevel, "refused", overAfter), func() (lines []map[string]any) {
		for _, entry := range logs.TakeAll() {
			line := entry.ContextMap()
			line["message"] = entry.Message
			lines = append(lines, line)
		}
		return lines
	}
}

func pass(d time.Duration) { <-time.After(d) }

// The requests of an outage are logged as one line at its begin, one each minute, and one at
// its end.
func TestEpisode(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	synctest.Test(t, func(t *testing.T) {
		e, said := newEpisode(10 * time.Second)
		e.Over()
		require.Empty(t, said(), "nothing to end")
		for range 900 { // 90 s
			e.Seen("503", away)
			pass(100 * time.Millisecond)
		}
		require.Equal(t, []map[string]any{
			{"message": "refused", "state": "503", "count": int64(1), "error": "away"},
			{"message": "refused", "state": "503", "count": int64(601), "error": "away"},
		}, said())
		e.Over()
		require.Empty(t, said(), "a success in between does not end it")
		pass(10 * time.Second)
		e.Over()
		e.Over()
		require.Equal(t, []map[string]any{{"message": "refused: over", "state": "503", "count": int64(900), "lasted": 89900 * time.Millisecond}}, said())
	})
}

// A new state is logged at once. A state that comes back is not.
func TestEpisodeStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, said := newEpisode(0)
		for range 100 {
			e.Seen("does not answer", errors.New("refused"))
			e.Seen("wrong password", errors.New("28P01"))
		}
		require.Len(t, said(), 2)
		e.Over()
		require.Equal(t, int64(200), said()[0]["count"])
	})
}

// A condition that is seen again after overAfter begins a new episode, also without Over.
func TestANewEpisodeWithoutOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, said := newEpisode(10 * time.Second)
		e.Seen("503", nil)
		pass(11 * time.Second)
		e.Seen("503", nil)
		var messages []any
		for _, line := range said() {
			messages = append(messages, line["message"])
		}
		require.Equal(t, []any{"refused", "refused: over", "refused"}, messages)
	})
}
