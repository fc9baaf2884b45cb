// Package messagingtest gives tests a real RabbitMQ and a real PostgreSQL: one
// container per test binary, started when first asked for, and a fresh virtual
// host or database per test.
//
//	func TestMain(m *testing.M) { messagingtest.Main(m) }
//
// [Handle] needs none of that, and no Docker: it handles a message as a consumer would.
//
//	result := messagingtest.Handle(t, queue, delivery, func(p *messaging.Publisher) messaging.Handler { return events.New(p) })
//	require.Equal(t, messaging.Acked, result.Verdict)
//	require.Len(t, result.Published, 1)
package messagingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
	"go.uber.org/goleak"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

const (
	adminUser     = "admin"
	adminPassword = "test-only"
	startTimeout  = 2 * time.Minute
)

// labels let `make test` and `make clean` find what a process that is gone has left.
var labels = map[string]string{"messagingtest.owner": owner.Name()}

// Main runs the tests, removes their containers and fails when a goroutine is
// left. It does not return.
func Main(m *testing.M) {
	code := m.Run()
	for _, c := range []*shared{broker, database} {
		if err := c.terminate(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	management.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(
			// The docker client of testcontainers keeps connections for the process's life.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is a container that all tests of a binary share.
type shared struct {
	start func(ctx context.Context) (testcontainers.Container, error)
	once  sync.Once
	c     testcontainers.Container
	err   error
}

func (s *shared) get(t failer) testcontainers.Container {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		s.c, s.err = s.start(ctx)
	})
	if s.err != nil {
		t.Fatalf("start a container (is Docker there? `make test` sets all up): %v", s.err)
	}
	return s.c
}

func (s *shared) terminate() error {
	if s.c == nil {
		return nil
	}
	return testcontainers.TerminateContainer(s.c)
}

var loopback = netip.MustParseAddr("127.0.0.1")

var broker = &shared{start: func(ctx context.Context) (testcontainers.Container, error) { return startBroker(ctx) }}

// startBroker starts a RabbitMQ with further files and open ports.
func startBroker(ctx context.Context, changes ...testcontainers.ContainerCustomizer) (testcontainers.Container, error) {
	// A published port is drawn anew at each start of a container. Restart needs it to stay.
	amqpPort, managementPort, err := freePorts()
	if err != nil {
		return nil, err
	}
	request := testcontainers.GenericContainerRequest{
		Started: true,
		ContainerRequest: testcontainers.ContainerRequest{
			Image:        imageOf("RABBITMQ_IMAGE", "rabbitmq:4.3.6-management"),
			Labels:       maps.Clone(labels), // testcontainers adds to it
			Env:          map[string]string{"RABBITMQ_DEFAULT_USER": adminUser, "RABBITMQ_DEFAULT_PASS": adminPassword, "RABBITMQ_NODENAME": "rabbit@localhost"},
			ExposedPorts: []string{"5672/tcp", "15672/tcp"},
			HostConfigModifier: func(h *container.HostConfig) {
				h.PortBindings = network.PortMap{
					network.MustParsePort("5672/tcp"):  {{HostIP: loopback, HostPort: amqpPort}},
					network.MustParsePort("15672/tcp"): {{HostIP: loopback, HostPort: managementPort}},
				}
			},
			WaitingFor: wait.ForLog("Server startup complete").WithStartupTimeout(startTimeout),
		},
	}
	for _, change := range changes {
		if err := change.Customize(&request); err != nil {
			return nil, err
		}
	}
	return testcontainers.GenericContainer(ctx, request)
}

// freePorts finds two ports that nobody listens on.
func freePorts() (first, second string, err error) {
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = one.Close() }()
	two, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = two.Close() }()
	_, first, err = net.SplitHostPort(one.Addr().String())
	if err != nil {
		return "", "", err
	}
	_, second, err = net.SplitHostPort(two.Addr().String())
	return first, second, err
}

func imageOf(variable, official string) string {
	if image := os.Getenv(variable); image != "" {
		return image
	}
	return official
}

// BrokerInfo is a virtual host of the test binary's broker.
type BrokerInfo struct {
	URL           string // amqp, with the administrator's credentials and the virtual host
	ManagementURL string
	User          string
	Password      string
	VHost         string
	container     testcontainers.Container
}

// failer is what the helpers need of a testing.TB; an example has it too.
type failer interface {
	Helper()
	Context() context.Context
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Broker gives the test a virtual host of its own, which is removed at its end.
func Broker(t testing.TB) *BrokerInfo {
	t.Helper()
	b := newVHost(t)
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/vhosts/"+b.VHost, nil, nil) })
	return b
}

// TLSBroker starts a broker of its own that takes amqps only from clients with a
// certificate of the same authority. The files are PEM.
func TLSBroker(t testing.TB, authority, certificate, key []byte) *BrokerInfo {
	t.Helper()
	const settings = `
listeners.ssl.default = 5671
ssl_options.cacertfile = /etc/rabbitmq/tls/ca.pem
ssl_options.certfile = /etc/rabbitmq/tls/server.pem
ssl_options.keyfile = /etc/rabbitmq/tls/server-key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
`
	files := map[string][]byte{
		"conf.d/20-tls.conf": []byte(settings), "tls/ca.pem": authority, "tls/server.pem": certificate, "tls/server-key.pem": key,
	}
	_, port, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c, err := startBroker(ctx, testcontainers.CustomizeRequestOption(func(r *testcontainers.GenericContainerRequest) error {
		for name, content := range files {
			r.Files = append(r.Files, testcontainers.ContainerFile{
				Reader: bytes.NewReader(content), ContainerFilePath: "/etc/rabbitmq/" + name, FileMode: 0o644,
			})
		}
		r.ExposedPorts = append(r.ExposedPorts, "5671/tcp")
		ports := r.HostConfigModifier
		r.HostConfigModifier = func(h *container.HostConfig) {
			ports(h)
			h.PortBindings[network.MustParsePort("5671/tcp")] = []network.PortBinding{{HostIP: loopback, HostPort: port}}
		}
		return nil
	}))
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatalf("start a broker with TLS: %v", err)
	}
	return &BrokerInfo{
		URL: "amqps://127.0.0.1:" + port + "/", ManagementURL: "http://" + endpoint(t, c, "15672/tcp"),
		User: adminUser, Password: adminPassword, VHost: "/", container: c,
	}
}

// own is the virtual host "/" of a broker of the test's own.
func own(t failer, c testcontainers.Container) *BrokerInfo {
	t.Helper()
	return &BrokerInfo{
		URL:           fmt.Sprintf("amqp://%s:%s@%s/", adminUser, adminPassword, endpoint(t, c, "5672/tcp")),
		ManagementURL: "http://" + endpoint(t, c, "15672/tcp"),
		User:          adminUser, Password: adminPassword, VHost: "/", container: c,
	}
}

func newVHost(t failer) *BrokerInfo {
	t.Helper()
	c := broker.get(t)
	b := &BrokerInfo{User: adminUser, Password: adminPassword, VHost: "test-" + uuid.NewString(), container: c}
	b.ManagementURL = "http://" + endpoint(t, c, "15672/tcp")
	b.URL = fmt.Sprintf("amqp://%s:%s@%s/%s", b.User, b.Password, endpoint(t, c, "5672/tcp"), b.VHost)
	b.Management(t, http.MethodPut, "/api/vhosts/"+b.VHost, nil, nil)
	return b
}

func endpoint(t failer, c testcontainers.Container, port string) string {
	t.Helper()
	mapped, err := c.MappedPort(t.Context(), port)
	if err != nil {
		t.Fatalf("find the port %s: %v", port, err)
	}
	return "127.0.0.1:" + mapped.Port()
}

// Config connects as the administrator.
func (b *BrokerInfo) Config() messaging.Config {
	return messaging.Config{URLs: []string{b.URL}, Name: "test"}
}

// Connect connects with the config, and closes the connection at the test's end.
func (b *BrokerInfo) Connect(t testing.TB, config messaging.Config) *messaging.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := messaging.Connect(ctx, config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Errorf("close the connection: %v", err)
		}
	})
	return conn
}

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

// Depth is the number of ready messages in a queue, as a consumer would find them.
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

// Unsettled is how many messages a queue has, those that consumers hold included,
// as the broker itself counts.
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

// WithUser is the URL for another user of the same virtual host.
func (b *BrokerInfo) WithUser(t testing.TB, user, password string) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

// Eventually polls until the condition holds, and otherwise ends the test with
// the last state that it saw.
func Eventually(t testing.TB, timeout time.Duration, condition func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(25 * time.Millisecond)
	defer poll.Stop()
	for {
		ok, state := condition()
		if ok {
			return
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("not so after %s; last state: %s", timeout, state)
		}
	}
}
