package messagingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/testcontainers/testcontainers-go/exec"

	"example.com/orderflow/pkg/messaging"
)

// What a test does with a broker as an operator would.

var management = &http.Client{Timeout: time.Minute}

// Management calls the management API; a status of 300 or more ends the test.
func (b *BrokerInfo) Management(t failer, method, path string, in, out any) {
	t.Helper()
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, b.ManagementURL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(b.User, b.Password)
	req.Header.Set("Content-Type", "application/json")
	res, err := management.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s", method, path, res.Status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatal(err)
		}
	}
}

// Exec runs a command in the broker's container and gives its output.
func (b *BrokerInfo) Exec(t testing.TB, command ...string) string {
	t.Helper()
	code, out, err := b.container.Exec(context.WithoutCancel(t.Context()), command, exec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		t.Fatalf("%s: exit %d: %s", strings.Join(command, " "), code, text)
	}
	return string(text)
}

// CloseAllConnections makes the broker close every connection of this virtual host.
func (b *BrokerInfo) CloseAllConnections(t testing.TB) {
	t.Helper()
	b.Exec(t, "rabbitmqctl", "close_all_connections", "--vhost", b.VHost, "closed by a test")
}

// Restart stops the broker and starts it again. All tests of the binary share
// it: a test that restarts must not be parallel to others.
func (b *BrokerInfo) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := b.container.Stop(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.container.Start(ctx); err != nil {
		t.Fatal(err)
	}
	Eventually(t, startTimeout, func() (bool, string) {
		code, _, err := b.container.Exec(ctx, []string{"rabbitmqctl", "await_startup"})
		return err == nil && code == 0, fmt.Sprint(code, err)
	})
}

// Depth is the number of ready messages in a queue.
func (b *BrokerInfo) Depth(t testing.TB, queue string) int {
	t.Helper()
	conn, err := amqp.Dial(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// Unsettled is how many messages a queue has, including those that consumers hold, as the
// broker counts them.
func (b *BrokerInfo) Unsettled(t testing.TB, queue string) int {
	t.Helper()
	for _, line := range strings.Split(b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "list_queues", "--no-table-headers", "name", "messages"), "\n") {
		name, count, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name != queue {
			continue
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		return n
	}
	t.Fatalf("there is no queue %q", queue)
	return 0
}

// DeleteQueue deletes a queue, as an operator does.
func (b *BrokerInfo) DeleteQueue(t testing.TB, queue string) {
	t.Helper()
	b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "delete_queue", queue)
}

// Admin applies and verifies topologies as the administrator.
func (b *BrokerInfo) Admin() messaging.Admin {
	return messaging.Admin{AMQPURL: b.URL, ManagementURL: b.ManagementURL, User: b.User, Password: b.Password, VHost: b.VHost}
}

// WithUser gives the URL of the virtual host for another user.
func (b *BrokerInfo) WithUser(t testing.TB, user, password string) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
