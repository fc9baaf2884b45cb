package messaging

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func awayOf() *away { return &away{log: zap.NewNop(), remembered: map[string]time.Time{}} }

func awayJob(id string) *job {
	return &job{raw: amqp.Delivery{MessageId: id}, delivery: &Delivery{}, tried: time.Now(), out: outcome{failed: true, away: true, text: "away"}}
}

// From 1 s to 30 s, at least half of each, and a probe of 1 to 32 messages.
func TestPausesDouble(t *testing.T) {
	t.Parallel()
	a := awayOf()
	for i, bound := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		pause := a.down(awayJob("a"))
		require.GreaterOrEqual(t, pause, bound*time.Second/2)
		require.LessOrEqual(t, pause, bound*time.Second)
		require.Equal(t, min(1<<i, maxProbe), a.size())
	}
	a.up(false) // nothing says so any more, and nothing was handled
	require.NoError(t, a.state())
	require.Zero(t, a.size())
	require.Greater(t, a.down(awayJob("a")), 10*time.Second)
	a.up(true)
	require.LessOrEqual(t, a.down(awayJob("a")), time.Second)
	require.Equal(t, 1, a.size())
}

func TestAPauseThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{2 * time.Minute: 2 * time.Minute, time.Hour: maxAskedPause} {
		j := awayJob("a")
		j.out.pause = asked
		require.Equal(t, want, awayOf().down(j))
	}
}

// A message has failed alone when it fails again although one that began in between succeeded.
func TestWhichMessageHasFailedAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := awayOf()
		good := awayJob("good")
		<-time.After(time.Second)
		require.False(t, a.failedAlone(awayJob("bad")), "the first time")
		a.succeeded(good)
		require.False(t, a.failedAlone(awayJob("bad")), "the other one began before it")
		<-time.After(time.Second)
		a.succeeded(awayJob("good"))
		<-time.After(time.Second)
		require.True(t, a.failedAlone(awayJob("bad")))
		require.False(t, a.failedAlone(awayJob("another")))
		a.succeeded(awayJob("bad"))
		require.False(t, a.failedAlone(awayJob("bad")), "it has succeeded")
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	a := awayOf()
	for i := range 3 * maxRemembered {
		a.failedAlone(awayJob(fmt.Sprint(i)))
	}
	require.Len(t, a.remembered, maxRemembered)
	require.NotEqual(t, identity(&job{raw: amqp.Delivery{Body: []byte("a")}}), identity(&job{raw: amqp.Delivery{Body: []byte("b")}}))
}
