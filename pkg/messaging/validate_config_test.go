package messaging_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestConnectRefusesBadSettings(t *testing.T) {
	t.Parallel()
	const nobody = "amqp://127.0.0.1:1"
	given := func(context.Context) (messaging.Credentials, error) { return messaging.Credentials{}, nil }
	for _, c := range []struct {
		want   string
		config messaging.Config
	}{
		{"URLs: at least one", messaging.Config{}},
		{"URLs: number 2 is not an AMQP URL", messaging.Config{URLs: []string{"amqp://a:a@127.0.0.1:1", "http://127.0.0.1:1"}}},
		{"URLs: number 2 has another user", messaging.Config{URLs: []string{"amqp://a:a@127.0.0.1:1", "amqp://b:b@127.0.0.1:1"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://u:p@ss#wort@127.0.0.1:1/"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://127.0.0.1:1/#"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://u:123/wort@127.0.0.1:1/"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://u:123?wort@127.0.0.1:1/"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://u:wo%rd@127.0.0.1:1/"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://u:wo rd@127.0.0.1:1/"}}},
		{"percent-encoded", messaging.Config{URLs: []string{nobody + "/?wort=1"}}},
		{"percent-encoded", messaging.Config{URLs: []string{"amqp://127.0.0.1:70000"}}},
		{"its virtual host has 256 bytes", messaging.Config{URLs: []string{nobody + "/" + strings.Repeat("v", 256)}}},
		{"its user is not UTF-8", messaging.Config{URLs: []string{"amqp://%ff:wort@127.0.0.1:1"}}},
		{"its password holds a zero byte", messaging.Config{URLs: []string{"amqp://u:wort%00@127.0.0.1:1"}}},
		{"Password: is ignored without User", messaging.Config{URLs: []string{nobody}, Password: "wort"}},
		{"Password: must not be empty", messaging.Config{URLs: []string{nobody}, User: "u"}},
		{"Password: holds a zero byte", messaging.Config{URLs: []string{nobody}, User: "u", Password: "wort\x00"}},
		{"User: has 256 bytes", messaging.Config{URLs: []string{nobody}, User: strings.Repeat("u", 256), Password: "wort"}},
		{"Password: is not used", messaging.Config{URLs: []string{nobody}, Password: "wort", Credentials: given}},
		{"Password: is not used", messaging.Config{URLs: []string{nobody}, Password: "wort", ByCertificate: true}},
		{"ByCertificate: takes no Credentials", messaging.Config{URLs: []string{nobody}, ByCertificate: true, Credentials: given}},
		{"ByCertificate: needs TLS", messaging.Config{URLs: []string{nobody}, ByCertificate: true}},
		{"ByCertificate: URL number 2", messaging.Config{URLs: []string{"amqps://127.0.0.1:1", nobody}, ByCertificate: true, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}},
		{"User: has 256 bytes", messaging.Config{URLs: []string{nobody}, User: strings.Repeat("u", 256), Credentials: given}},
		{"Name: has 219 bytes", messaging.Config{URLs: []string{nobody}, Name: strings.Repeat("n", 219)}},
		{"Name: is not UTF-8", messaging.Config{URLs: []string{nobody}, Name: "\xff"}},
		{"AppID: has 256 bytes", messaging.Config{URLs: []string{nobody}, AppID: strings.Repeat("n", 256)}},
		{"Heartbeat: must not be negative", messaging.Config{URLs: []string{nobody}, Heartbeat: -1}},
		{"Heartbeat: must be whole seconds", messaging.Config{URLs: []string{nobody}, Heartbeat: 500 * time.Millisecond}},
		{"Heartbeat: must be whole seconds", messaging.Config{URLs: []string{nobody}, Heartbeat: 1500 * time.Millisecond}},
		{"at most 65535", messaging.Config{URLs: []string{nobody}, Heartbeat: 65_536 * time.Second}},
		{"CallTimeout: must not be negative", messaging.Config{URLs: []string{nobody}, CallTimeout: -1}},
		{"MaxMessageSize: must not be negative", messaging.Config{URLs: []string{nobody}, MaxMessageSize: -1}},
		{"MaxMessageSize: must not be negative, and at most 536870912", messaging.Config{URLs: []string{nobody}, MaxMessageSize: 1 << 30}},
	} {
		_, err := messaging.Connect(within(t, 5*time.Second), c.config)
		require.ErrorContains(t, err, c.want)
		require.NotErrorIs(t, err, context.DeadlineExceeded, c.want)
		for _, secret := range []string{"a:a", "ss#", "wort"} {
			require.NotContains(t, err.Error(), secret, "a password")
		}
	}
}

// The other ways in for URLs and passwords, which no error repeats either.
func TestAdminRefusesBadSettings(t *testing.T) {
	t.Parallel()
	const broker, management = "amqp://127.0.0.1:1/", "http://127.0.0.1:1"
	for _, c := range []struct {
		want  string
		admin messaging.Admin
	}{
		{"AMQPURL: not an AMQP URL", messaging.Admin{AMQPURL: "http://u:wort@127.0.0.1:1", ManagementURL: management}},
		{"AMQPURL: not an AMQP URL", messaging.Admin{AMQPURL: "amqp://u:p@ss#wort@127.0.0.1:1", ManagementURL: management}},
		{"Password: is ignored without User", messaging.Admin{AMQPURL: broker, ManagementURL: management, Password: "wort"}},
		{"VHost: cannot be part of a URL", messaging.Admin{AMQPURL: broker, ManagementURL: management, VHost: ".."}},
		{"VHost: is not UTF-8", messaging.Admin{AMQPURL: broker, ManagementURL: management, VHost: "\xff"}},
		{"ManagementURL: not an http or https URL", messaging.Admin{AMQPURL: broker, ManagementURL: "u:wort@127.0.0.1:1"}},
		{"ManagementURL: takes no user", messaging.Admin{AMQPURL: broker, ManagementURL: "http://u:wort@127.0.0.1:1"}},
		{"ManagementURL: takes no user", messaging.Admin{AMQPURL: broker, ManagementURL: management + "/#wort"}},
		{"ManagementURL: takes no user", messaging.Admin{AMQPURL: broker, ManagementURL: management + "/?wort"}},
	} {
		_, err := messaging.Verify(within(t, 5*time.Second), c.admin, sample())
		for _, err := range []error{
			err, messaging.Apply(within(t, 5*time.Second), c.admin, sample()),
			messaging.ApplyUsers(within(t, 5*time.Second), c.admin, nil, nil), messaging.ApplyUpstreams(within(t, 5*time.Second), c.admin, nil),
		} {
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "wort", "a password")
		}
	}
	good := messaging.Admin{AMQPURL: broker, ManagementURL: management}
	password := func(string) (string, error) { return "wort", nil }
	for want, users := range map[string][]messaging.User{
		`user "": Name: must not be empty`:              {{}},
		`user "..": Name: cannot be part of a URL`:      {{Name: ".."}},
		`user "\xff": Name: is not UTF-8`:               {{Name: "\xff"}},
		`user "u": declared twice`:                      {{Name: "u"}, {Name: "u"}},
		`user "u": Tags: "monitoring,administrator" is`: {{Name: "u", Tags: []string{"monitoring,administrator"}}},
	} {
		require.ErrorContains(t, messaging.ApplyUsers(within(t, 5*time.Second), good, users, password), want)
	}
	require.ErrorContains(t, messaging.ApplyUsers(within(t, 5*time.Second), good, nil, nil), "password: must not be nil")
	for want, u := range map[string]messaging.Upstream{
		`upstream ".": Name`:                       {Name: ".", URL: broker, User: "u", Password: "wort"},
		`upstream "us": URL: not an AMQP URL`:      {Name: "us", URL: "amqp://u:p@ss#wort@127.0.0.1:1", User: "u", Password: "wort"},
		`upstream "us": messaging: Password: hold`: {Name: "us", URL: broker, User: "u", Password: "wort\x00"},
	} {
		err := messaging.ApplyUpstreams(within(t, 5*time.Second), good, []messaging.Upstream{u})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "wort", "a password")
	}
}

// Every character in a password, in a URL or beside it; the longest names; the shortest heartbeat.
func TestConnectWithOddSettings(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	user, password := "ü "+uuid.NewString(), "p@ss#/?%:wort \xc3\xa9"
	b.Management(t, http.MethodPut, "/api/users/"+strings.ReplaceAll(user, " ", "%20"), map[string]any{"password": password, "tags": ""}, nil)
	t.Cleanup(func() {
		b.Management(t, http.MethodDelete, "/api/users/"+strings.ReplaceAll(user, " ", "%20"), nil, nil)
	})
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+strings.ReplaceAll(user, " ", "%20"),
		map[string]any{"configure": ".*", "write": ".*", "read": ".*"}, nil)
	for _, config := range []messaging.Config{
		{URLs: []string{b.WithUser(t, user, password)}},
		{URLs: []string{b.WithUser(t, "x", "y")}, User: user, Password: password, Heartbeat: time.Second},
		{URLs: []string{b.URL}, Name: strings.Repeat("é", 109), AppID: strings.Repeat("é", 127)},
	} {
		conn := b.Connect(t, config)
		handled := make(chan string, 1)
		consumer, err := conn.Consume(messaging.Queue{Name: "jobs"}, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			handled <- d.ID
			return nil
		}))
		require.NoError(t, err)
		require.Equal(t, publishTo(t, conn, "jobs", "x").ID, next(t, handled))
		require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
	}
}
