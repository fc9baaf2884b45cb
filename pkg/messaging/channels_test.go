package messaging_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestMoreRoutesThanLanes(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	const many = 150
	for n := range many {
		_, err := ch.QueueDeclare(fmt.Sprint("q", n), true, false, false, false, nil)
		require.NoError(t, err)
	}
	p := publisher(t, b.Connect(t, b.Config()))
	ctx := within(t, 60*time.Second)
	var publishing sync.WaitGroup
	for n := range many {
		publishing.Go(func() {
			for range 3 {
				m, err := messaging.NewMessage(work, "x")
				if err == nil {
					err = p.Publish(ctx, messaging.Route{Key: fmt.Sprint("q", n)}, m)
				}
				if err != nil {
					t.Errorf("queue %d: %v", n, err)
				}
			}
		})
	}
	publishing.Wait()
	for n := range many {
		require.Equal(t, 3, b.Depth(t, fmt.Sprint("q", n)))
	}
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		n := strings.Count(b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "list_channels", "--no-table-headers", "vhost"), b.VHost)
		return n <= 64+1, fmt.Sprint(n, " channels") // and the test's own
	})
}

// A publisher for each message, never closed, says what is wrong with that.
func TestTooManyChannels(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, err := raw(t, b).QueueDeclare("jobs", true, false, false, false, nil)
	require.NoError(t, err)
	conn := b.Connect(t, b.Config())
	ctx := within(t, 5*time.Minute)
	publish := func(p *messaging.Publisher) error {
		m, err := messaging.NewMessage(work, "x")
		if err == nil {
			m.Transient = true
			err = p.Publish(ctx, messaging.Route{Key: "jobs"}, m)
		}
		return err
	}
	const most = 2047
	publishers := make([]*messaging.Publisher, most)
	var publishing sync.WaitGroup
	for first := range 16 {
		publishing.Go(func() {
			for n := first; n < most; n += 16 {
				publishers[n] = publisher(t, conn)
				if err := publish(publishers[n]); err != nil {
					t.Errorf("number %d: %v", n, err)
				}
			}
		})
	}
	publishing.Wait()
	began := time.Now()
	err = publish(publisher(t, conn))
	require.ErrorIs(t, err, messaging.ErrTooManyChannels)
	_, err = messaging.Call(ctx, conn.Caller(), messaging.Procedure[string, string]{Route: messaging.Route{Key: "jobs"}, Request: work, Reply: work}, "x")
	require.ErrorIs(t, err, messaging.ErrTooManyChannels)
	require.Less(t, time.Since(began), 10*time.Second)

	require.NoError(t, publishers[7].Close(ctx))
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		err := publish(publisher(t, conn))
		return err == nil, fmt.Sprint(err)
	})
}

// A limit of the user's, at which the broker closes the connection of all.
func TestALimitOfChannelsIsReachedOnce(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	limited := messaging.User{Name: "limited-" + b.VHost, Write: ".*", Read: ".*"}
	t.Cleanup(func() { b.Management(t, "DELETE", "/api/users/"+limited.Name, nil, nil) })
	require.NoError(t, messaging.ApplyUsers(within(t, 30*time.Second), b.Admin(), []messaging.User{limited}, func(string) (string, error) { return "x", nil }))
	const most = 5
	b.Exec(t, "rabbitmqctl", "-q", "set_user_limits", limited.Name, fmt.Sprintf(`{"max-channels": %d}`, most))
	config := b.Config()
	config.URLs = []string{b.WithUser(t, limited.Name, "x")}
	conn, log := observed(t, b, config)
	ctx := within(t, 60*time.Second)
	publish := func(p *messaging.Publisher) error {
		return p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x"))
	}
	var publishers []*messaging.Publisher
	for range most {
		publishers = append(publishers, publisher(t, conn))
		require.NoError(t, publish(publishers[len(publishers)-1]))
	}
	require.ErrorIs(t, publish(publisher(t, conn)), messaging.ErrTooManyChannels)
	for _, p := range publishers { // their channels are open again
		require.NoError(t, publish(p))
	}
	lost := log.FilterMessage("connection lost").Len()
	for range 5 {
		require.ErrorIs(t, publish(publisher(t, conn)), messaging.ErrTooManyChannels)
	}
	for _, p := range publishers {
		require.NoError(t, publish(p))
	}
	require.Equal(t, lost, log.FilterMessage("connection lost").Len(), "it is known now")
}

// A user that may have no more connections publishes by the shared one.
func TestALaneThatGetsNoConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	routes := laneRoutes(t, raw(t, b))
	limited := messaging.User{Name: "limited-" + b.VHost, Write: ".*", Read: ".*"}
	t.Cleanup(func() { b.Management(t, "DELETE", "/api/users/"+limited.Name, nil, nil) })
	require.NoError(t, messaging.ApplyUsers(within(t, 30*time.Second), b.Admin(), []messaging.User{limited}, func(string) (string, error) { return "x", nil }))
	b.Exec(t, "rabbitmqctl", "-q", "set_user_limits", limited.Name, `{"max-connections": 1}`)
	config := b.Config()
	config.URLs = []string{b.WithUser(t, limited.Name, "x")}
	p := publisher(t, b.Connect(t, config))
	ctx := within(t, 60*time.Second)
	for _, route := range routes {
		require.NoError(t, p.Publish(ctx, route, message(t, "x")))
		var all []*messaging.Confirmation
		for n := range 100 { // more than the lane may have there
			all = append(all, p.PublishAsync(ctx, route, message(t, n)))
		}
		for _, c := range all {
			require.NoError(t, c.Wait(ctx))
		}
	}
}
