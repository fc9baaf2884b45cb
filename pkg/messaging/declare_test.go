package messaging_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// ordinary is a user with all rights in the virtual host, and no tag.
func ordinary(t *testing.T, b *messagingtest.BrokerInfo) *messagingtest.BrokerInfo {
	t.Helper()
	return b.As(t, messaging.User{Name: "ordinary-" + b.VHost, Configure: ".*", Write: ".*", Read: ".*"})
}

// Everything that a topology can have, as arguments, by a user without a tag. It may be
// declared again, and cannot be changed.
func TestDeclareTakesNoManagementRights(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	user := ordinary(t, b)
	conn := user.Connect(t, user.Config())
	topology := sample()
	for range 2 {
		require.NoError(t, conn.Declare(within(t, time.Minute), topology))
	}

	// What the broker has is what a policy would say.
	var queues []struct {
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
	}
	b.Management(t, "GET", "/api/queues/"+b.VHost, nil, &queues)
	require.Len(t, queues, len(topology.Queues))
	for _, q := range queues {
		if q.Name == "work" {
			require.Equal(t, map[string]any{
				"x-queue-type": "quorum", "x-max-length": 1000., "x-max-length-bytes": float64(1 << 20), "x-overflow": "reject-publish",
				"x-message-ttl": 60000., "x-delivery-limit": 5., "x-consumer-timeout": 300000., "x-consumer-disconnected-timeout": 5000.,
				"x-delayed-retry-type": "failed", "x-delayed-retry-min": 1000., "x-delayed-retry-max": 30000.,
				"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "work", "x-dead-letter-strategy": "at-least-once",
			}, q.Arguments)
		}
	}
	topology.Queues[sampleWork].MaxLength = 7
	err := conn.Declare(within(t, time.Minute), topology)
	require.ErrorContains(t, err, `declare topology: queue "work"`)
	require.ErrorContains(t, err, "x-max-length")
}

// The broker honours arguments as it does policies: delays, the limit, the default
// exchange for dead letters.
func TestDeclareMakesRetriesAndDeadLetters(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	user := ordinary(t, b)
	conn := user.Connect(t, user.Config())
	const least = 300 * time.Millisecond
	jobs, topology := messaging.WorkQueue("jobs", messaging.Retry{Limit: 2, MinDelay: least, MaxDelay: least})
	require.NoError(t, conn.Declare(within(t, time.Minute), topology))
	var seen calls
	_, err := conn.Consume(jobs, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		seen.note(d)
		return errors.New("broken")
	}))
	require.NoError(t, err)
	sent := publishTo(t, conn, "jobs", "x")
	dead := get(t, raw(t, b), "jobs.dead")
	require.Equal(t, sent.ID, dead.MessageId)
	require.Equal(t, "broken", dead.Headers[messaging.HeaderDeadReason])
	require.Equal(t, []int{1, 2, 3}, seen.attempts())
	for i := range 2 {
		require.GreaterOrEqual(t, seen.times[i+1].Sub(seen.times[i]), least-20*time.Millisecond)
	}
}

// The broker's own dead-lettering takes the default exchange too, at least once, by
// policy and by argument.
func TestTheBrokerDeadLettersToTheDefaultExchange(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(*messagingtest.BrokerInfo, *messaging.Conn, messaging.Topology) error{
		"applied": func(b *messagingtest.BrokerInfo, _ *messaging.Conn, topology messaging.Topology) error {
			return messaging.Apply(context.Background(), b.Admin(), topology)
		},
		"declared": func(_ *messagingtest.BrokerInfo, conn *messaging.Conn, topology messaging.Topology) error {
			return conn.Declare(context.Background(), topology)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			conn := b.Connect(t, b.Config())
			_, topology := messaging.WorkQueue("jobs", messaging.Retry{})
			topology.Queues[1].MessageTTL = 100 * time.Millisecond
			require.NoError(t, put(b, conn, topology))
			sent := publishTo(t, conn, "jobs", "x")
			require.Equal(t, sent.ID, get(t, raw(t, b), "jobs.dead").MessageId)
		})
	}
}

func TestDeclareSaysWhichRightIsMissing(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, topology := messaging.WorkQueue("jobs", messaging.Retry{})
	topology.Exchanges = []messaging.Exchange{{Name: "events", Kind: messaging.Topic}}
	topology.Bindings = []messaging.Binding{{Source: "events", Destination: "jobs", Key: "#"}}
	for name, c := range map[string]struct {
		rights messaging.User
		want   string
	}{
		"configure": {messaging.User{Configure: "^events$", Write: ".*", Read: ".*"}, `queue "jobs.dead": Exception (403) Reason: "ACCESS_REFUSED - configure access to queue 'jobs.dead'`},
		"write":     {messaging.User{Configure: ".*", Write: "^amq.default$", Read: ".*"}, `binding events -> jobs key #: Exception (403) Reason: "ACCESS_REFUSED - write access to queue 'jobs'`},
		"read":      {messaging.User{Configure: ".*", Write: ".*", Read: "^jobs$"}, `binding events -> jobs key #: Exception (403) Reason: "ACCESS_REFUSED - read access to exchange 'events'`},
	} {
		c.rights.Name = name + "-" + b.VHost
		user := b.As(t, c.rights)
		conn := user.Connect(t, user.Config())
		require.ErrorContains(t, conn.Declare(within(t, time.Minute), topology), c.want, name)
	}
}

// An administrator's work asks for a tag, and the error says for which.
func TestApplySaysWhichTagIsMissing(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, topology := messaging.WorkQueue("jobs", messaging.Retry{Limit: 5})
	all := messaging.User{Configure: ".*", Write: ".*", Read: ".*"}
	as := func(tags ...string) *messagingtest.BrokerInfo {
		user := all
		user.Name, user.Tags = strings.Join(append([]string{"tagged"}, tags...), "-")+"-"+b.VHost, tags
		return b.As(t, user)
	}
	nobody, reader, maker := as(), as("management"), as("policymaker")
	for user, tag := range map[*messagingtest.BrokerInfo]string{nobody: "management", reader: "policymaker"} {
		err := messaging.Apply(within(t, time.Minute), user.Admin(), topology)
		require.ErrorContains(t, err, `the user needs the tag "`+tag+`"`)
	}
	require.NoError(t, messaging.Apply(within(t, time.Minute), maker.Admin(), topology))
	differences, err := messaging.Verify(within(t, time.Minute), reader.Admin(), topology)
	require.NoError(t, err)
	require.Empty(t, differences)
	err = messaging.ApplyUsers(within(t, time.Minute), maker.Admin(), []messaging.User{all}, nil)
	require.ErrorContains(t, err, "Name: must not be empty")
	all.Name = "new-" + b.VHost
	err = messaging.ApplyUsers(within(t, time.Minute), maker.Admin(), []messaging.User{all}, func(string) (string, error) { return "x", nil })
	require.ErrorContains(t, err, `the tag "administrator"`)
}

func TestDeclareRefuses(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	_, jobs := messaging.WorkQueue("jobs", messaging.Retry{})
	for name, c := range map[string]struct {
		change func(*messaging.Topology)
		want   string
	}{
		"what is not valid": {func(t *messaging.Topology) { t.Queues[1].Type = "" }, `queue "jobs": Type`},
		"a federated exchange": {func(t *messaging.Topology) {
			t.Exchanges = []messaging.Exchange{{Name: "x", Kind: messaging.Topic, Federated: true}}
		}, `exchange "x": Federated`},
		"an unknown kind":    {func(t *messaging.Topology) { t.Exchanges = []messaging.Exchange{{Name: "x", Kind: "x-none"}} }, `exchange "x": kind: the broker does not have "x-none"`},
		"a missing exchange": {func(t *messaging.Topology) { t.Exchanges = []messaging.Exchange{{Name: "theirs", External: true}} }, `exchange "theirs": Exception (404)`},
		"a missing queue":    {func(t *messaging.Topology) { t.Queues = []messaging.Queue{{Name: "theirs", External: true}} }, `queue "theirs": Exception (404)`},
	} {
		topology := messaging.Merge(jobs)
		c.change(&topology)
		require.ErrorContains(t, conn.Declare(within(t, time.Minute), topology), c.want, name)
	}
	require.NoError(t, conn.Ready(), "no other connection has ended")
	require.NoError(t, conn.Close(within(t, 10*time.Second)))
	require.ErrorIs(t, conn.Declare(within(t, time.Minute), jobs), messaging.ErrClosed)
}
