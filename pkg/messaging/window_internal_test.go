package messaging

import (
	"errors"
	"testing"
	"testing/synctest"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// sessionOf has a window and no channel.
func sessionOf(window int) *session {
	return &session{
		Publisher: &Publisher{}, lane: newLane(Route{}),
		places: make(chan struct{}, window), first: make(chan struct{}, 1),
		proven: make(chan struct{}), look: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// Until the first message has its outcome no other one is sent, and each has its place.
func TestTheFirstMessageIsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOf(3)
		require.NoError(t, s.place(t.Context(), Route{}))
		second := make(chan error, 1)
		go func() { second <- s.place(t.Context(), Route{}) }()
		synctest.Wait()
		require.Empty(t, second)
		close(s.proven)
		require.NoError(t, <-second)
		require.NoError(t, s.place(t.Context(), Route{}))
		require.Len(t, s.places, 3)
	})
}

func TestAFullWindowWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOf(1)
		close(s.proven)
		require.NoError(t, s.place(t.Context(), Route{}))
		second := make(chan error, 1)
		go func() { second <- s.place(t.Context(), Route{}) }()
		synctest.Wait()
		require.Empty(t, second)
		<-s.places
		require.NoError(t, <-second)
	})
}

// A message that waits for a place when the session ends gets the reason, and takes no place.
func TestNoPlaceAfterTheEnd(t *testing.T) {
	t.Parallel()
	refused := &rejection{reason: &amqp.Error{Code: amqp.AccessRefused, Server: true, Recover: true}, route: Route{Key: "a"}}
	for _, c := range []struct {
		name    string
		refused *rejection
		key     string
		want    error
	}{
		{"of the session", nil, "a", errSessionOver},
		{"over a message to the same key", refused, "a", ErrRefused},
		{"over a message to another key", refused, "b", errSessionOver},
		{"over an exchange that is missing", &rejection{reason: &amqp.Error{Code: amqp.NotFound}}, "b", ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sessionOf(2)
			s.first <- struct{}{} // one is on its way
			s.places <- struct{}{}
			s.refused = c.refused
			close(s.ended)
			require.ErrorIs(t, s.place(t.Context(), Route{Key: c.key}), c.want)
			require.Len(t, s.places, 1)
		})
	}
}

// What is known of a message that was on its way when the channel ended.
func TestErrorOfAMessageWhenItsChannelEnds(t *testing.T) {
	t.Parallel()
	channel := &amqp.Error{Code: amqp.NotFound, Server: true, Recover: true}
	connection := &amqp.Error{Code: amqp.InternalError, Server: true}
	forced := &amqp.Error{Code: amqp.ConnectionForced, Server: true}
	lost := &amqp.Error{Code: amqp.FrameError, Recover: true}
	for _, c := range []struct {
		name          string
		reason        *amqp.Error
		known         bool
		refused, lost bool
	}{
		{"closed by its owner", nil, false, false, true},
		{"this one, by the channel", channel, true, true, false},
		{"one of several, by the channel", channel, false, true, true},
		{"this one, by the connection", connection, true, true, false},
		{"one of several, by the connection", connection, false, true, true},
		{"an operator's doing", forced, false, false, true},
		{"a lost connection", lost, false, false, true},
	} {
		err := endError(c.reason, c.known)
		require.Equal(t, c.refused, errors.Is(err, ErrRefused), c.name)
		require.Equal(t, c.lost, errors.Is(err, ErrConnectionLost), c.name)
	}
}
