package messaging_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// vhost is a virtual host that has the sample.
type vhost struct {
	*messagingtest.BrokerInfo
	ch *amqp.Channel
}

// damaged is a virtual host after some damage, and the differences that must be found.
type damaged struct {
	name   string
	damage func(t *testing.T, v vhost)
	want   []string
}

// manage calls the management API on something of the virtual host.
func manage(t *testing.T, v vhost, method, kind, name string, body any) {
	t.Helper()
	v.Management(t, method, "/api/"+kind+"/"+v.VHost+"/"+url.PathEscape(name), body, nil)
}

// redeclare deletes a queue of the sample and declares it with other arguments.
func redeclare(t *testing.T, v vhost, name string, args amqp.Table) {
	t.Helper()
	_, err := v.ch.QueueDelete(name, false, false, false)
	require.NoError(t, err)
	_, err = v.ch.QueueDeclare(name, true, false, false, false, args)
	require.NoError(t, err)
}

func findDifferences(t *testing.T, list []damaged) {
	t.Helper()
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			apply(t, b, sample())
			c.damage(t, vhost{b, raw(t, b)})
			require.ElementsMatch(t, c.want, verify(t, b, sample()))
		})
	}
}

func TestVerifyFindsWhatIsMissingOrTooMuch(t *testing.T) {
	t.Parallel()
	findDifferences(t, []damaged{
		{"nothing", func(*testing.T, vhost) {}, nil},
		{"a missing queue, with its bindings", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "queues", "log", nil)
		}, []string{`queue "log": want declared, have missing`, `binding "events -> log key #": want declared, have missing`}},
		{"a missing exchange, with its bindings", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "exchanges", "dead", nil)
		}, []string{`exchange "dead": want declared, have missing`, `binding "dead -> work.dead key work": want declared, have missing`}},
		{"a missing binding of a queue", func(t *testing.T, v vhost) {
			require.NoError(t, v.ch.QueueUnbind("work", "order.#", "events", nil))
		}, []string{`binding "events -> work key order.#": want declared, have missing`}},
		{"a missing binding of an exchange", func(t *testing.T, v vhost) {
			require.NoError(t, v.ch.ExchangeUnbind("filtered", "#", "events", false, nil))
		}, []string{`binding "events -> exchange filtered key #": want declared, have missing`}},
		{"a binding with other headers", func(t *testing.T, v vhost) {
			require.NoError(t, v.ch.QueueUnbind("calls", "", "filtered", amqp.Table{"x-match": "any", "channel": "email"}))
			require.NoError(t, v.ch.QueueBind("calls", "", "filtered", false, amqp.Table{"x-match": "all", "channel": "email"}))
		}, []string{
			`binding "filtered -> calls match {\"channel\":\"email\",\"x-match\":\"any\"}": want declared, have missing`,
			`binding "filtered -> calls match {\"channel\":\"email\",\"x-match\":\"all\"}": want not declared, have present`,
		}},
		{"bindings that nobody declared", func(t *testing.T, v vhost) {
			require.NoError(t, v.ch.QueueBind("work", "extra", "events", false, nil))
			require.NoError(t, v.ch.ExchangeBind("events", "", "lost", false, nil))
		}, []string{
			`binding "events -> work key extra": want not declared, have present`,
			`binding "lost -> exchange events": want not declared, have present`,
		}},
		{"a queue and an exchange that nobody declared", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodPut, "queues", "mine", map[string]any{"durable": true, "arguments": map[string]any{"x-queue-type": "quorum"}})
			manage(t, v, http.MethodPut, "exchanges", "mine", map[string]any{"durable": true, "type": "topic"})
		}, []string{`exchange "mine": want not declared, have present`, `queue "mine": want not declared, have present`}},
		{"exclusive queues are not compared", func(t *testing.T, v vhost) {
			q, err := v.ch.QueueDeclare("", false, false, true, false, nil)
			require.NoError(t, err)
			require.NoError(t, v.ch.QueueBind(q.Name, "", "lost", false, nil))
		}, nil},
	})
}

func TestVerifyFindsOtherArguments(t *testing.T) {
	t.Parallel()
	findDifferences(t, []damaged{
		{"an exchange of another kind", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "exchanges", "lost", nil)
			manage(t, v, http.MethodPut, "exchanges", "lost", map[string]any{"durable": true, "type": "direct"})
			require.NoError(t, v.ch.QueueBind("lost", "", "lost", false, nil))
		}, []string{`exchange "lost": type: want "fanout", have "direct"`}},
		{"an exchange that takes what it should not, and stays", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "exchanges", "inner", nil)
			manage(t, v, http.MethodPut, "exchanges", "inner", map[string]any{"durable": true, "type": "topic"})
			require.NoError(t, v.ch.ExchangeBind("inner", "#", "events", false, nil))
			require.NoError(t, v.ch.QueueBind("ordered", "order.#", "inner", false, nil))
		}, []string{`exchange "inner": auto_delete: want true, have false`, `exchange "inner": internal: want true, have false`}},
		{"a queue of another type", func(t *testing.T, v vhost) {
			redeclare(t, v, "ordered", amqp.Table{"x-queue-type": "classic"}) // it was the last binding of inner, which is deleted too
			require.NoError(t, v.ch.ExchangeDeclare("inner", "topic", true, true, true, false, nil))
			require.NoError(t, v.ch.ExchangeBind("inner", "#", "events", false, nil))
			require.NoError(t, v.ch.QueueBind("ordered", "order.#", "inner", false, nil))
		}, []string{
			`queue "ordered": type: want "quorum", have "classic"`,
			`queue "ordered": x-queue-type: want "quorum", have "classic"`,
			`queue "ordered": x-single-active-consumer: want true, have nothing`,
		}},
		{"an argument that beats the policy", func(t *testing.T, v vhost) {
			redeclare(t, v, "lost", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 3})
			require.NoError(t, v.ch.QueueBind("lost", "", "lost", false, nil))
		}, []string{`queue "lost": x-delivery-limit: want nothing, have 3`}},
		{"an alternate exchange by argument", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "exchanges", "lost", nil)
			manage(t, v, http.MethodPut, "exchanges", "lost", map[string]any{"durable": true, "type": "fanout", "arguments": map[string]any{"alternate-exchange": "dead"}})
			require.NoError(t, v.ch.QueueBind("lost", "", "lost", false, nil))
		}, []string{`exchange "lost": alternate-exchange: want nothing, have "dead"`}},
	})
}

func TestVerifyFindsOtherPolicies(t *testing.T) {
	t.Parallel()
	findDifferences(t, []damaged{
		{"a policy that is gone", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodDelete, "policies", "log", nil)
			manage(t, v, http.MethodDelete, "policies", "exchange:events", nil)
		}, []string{
			`exchange "events": alternate-exchange: want "lost", have nothing`,
			`queue "log": policy: want "log", have nothing`,
			`queue "log": max-age: want "3600s", have nothing`,
		}},
		{"a policy that beats the declared one", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodPut, "policies", "all", map[string]any{
				"pattern": "^calls$", "apply-to": "queues", "priority": 99, "definition": map[string]any{"max-length": 11, "expires": 3600000},
			})
		}, []string{
			`queue "calls": policy: want "calls", have "all"`,
			`queue "calls": expires: want nothing, have 3600000`,
			`queue "calls": max-length: want 10, have 11`,
			`queue "calls": overflow: want "drop-head", have nothing`,
			`policy "all": want not declared, have present`,
		}},
		{"an operator's policy", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodPut, "operator-policies", "cap", map[string]any{
				"pattern": "^work$", "apply-to": "queues", "definition": map[string]any{"max-length": 500},
			})
		}, []string{
			`queue "work": operator_policy: want nothing, have "cap"`,
			`queue "work": max-length: want 1000, have 500`,
		}},
		{"dead letters that are at most once", func(t *testing.T, v vhost) {
			manage(t, v, http.MethodPut, "policies", "work", map[string]any{
				"pattern": "^work$", "apply-to": "quorum_queues", "priority": 10, "definition": map[string]any{
					"max-length": 1000, "max-length-bytes": 1 << 20, "message-ttl": 60000, "delivery-limit": 5, "consumer-timeout": 300000, "consumer-disconnected-timeout": 5000,
					"delayed-retry-type": "failed", "delayed-retry-min": 1000, "delayed-retry-max": 30000,
					"dead-letter-exchange": "dead", "dead-letter-routing-key": "work",
				},
			})
		}, []string{
			`queue "work": dead-letter-strategy: want "at-least-once", have nothing`,
			`queue "work": overflow: want "reject-publish", have nothing`,
		}},
	})
}

// verify gives the differences as lines.
func verify(t *testing.T, b *messagingtest.BrokerInfo, topology messaging.Topology) []string {
	t.Helper()
	differences, err := messaging.Verify(within(t, 20*time.Second), adminOf(b), topology)
	require.NoError(t, err)
	var lines []string
	for _, d := range differences {
		lines = append(lines, d.String())
	}
	return lines
}

func TestVerifyFindsDifferencesOfUsers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	name := func() string {
		n := "u-" + uuid.NewString()
		t.Cleanup(func() {
			b.Management(t, http.MethodPut, "/api/users/"+n, map[string]any{"password": "x", "tags": ""}, nil) // it may be gone already
			b.Management(t, http.MethodDelete, "/api/users/"+n, nil, nil)
		})
		return n
	}
	topology := sample()
	topology.Users = []messaging.User{
		{Name: name(), Tags: []string{"monitoring", "management"}, Configure: "^a$", Write: "^b$", Read: "^c$"},
		{Name: name()},
	}
	apply(t, b, sample())
	password := func(string) (string, error) { return "secret", nil }
	require.NoError(t, messaging.ApplyUsers(within(t, 30*time.Second), adminOf(b), topology.Users, password))
	require.Empty(t, verify(t, b, topology))

	first, second, third := topology.Users[0], topology.Users[1], name()
	b.Management(t, http.MethodPut, "/api/users/"+first.Name, map[string]any{"password": "x", "tags": "administrator"}, nil)
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+first.Name, map[string]any{"configure": "", "write": ".*", "read": "^c$"}, nil)
	b.Management(t, http.MethodDelete, "/api/users/"+second.Name, nil, nil)
	b.Management(t, http.MethodPut, "/api/users/"+third, map[string]any{"password": "x", "tags": ""}, nil)
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+third, map[string]any{"configure": "", "write": "", "read": ".*"}, nil)
	require.ElementsMatch(t, []string{
		`user "` + first.Name + `": tags: want ["management","monitoring"], have ["administrator"]`,
		`user "` + first.Name + `": configure: want "^a$", have nothing`,
		`user "` + first.Name + `": write: want "^b$", have ".*"`,
		`user "` + second.Name + `": want declared, have missing`,
		`user "` + third + `": want not declared, have present`,
	}, verify(t, b, topology))

	require.Empty(t, verify(t, b, sample()), "a topology without users says nothing about them")
}
