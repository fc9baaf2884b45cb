package messagingtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

const (
	adminUser     = "admin"
	adminPassword = "test-only"
	startTimeout  = 2 * time.Minute
)

// labels let `make test` and `make clean` find the containers of processes that have ended.
var labels = map[string]string{"messagingtest.owner": owner.Name()}

var broker = &shared{start: func(ctx context.Context) (testcontainers.Container, error) { return startBroker(ctx) }}

// startBroker starts a RabbitMQ, with changes to its container, for example more files.
func startBroker(ctx context.Context, changes ...testcontainers.ContainerCustomizer) (testcontainers.Container, error) {
	// By default Docker chooses another port at each start. Restart needs the same one.
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

// freePorts finds two ports that are not in use.
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

// BrokerInfo is a virtual host of the test binary's broker.
type BrokerInfo struct {
	URL           string // amqp, with the administrator's credentials and the virtual host
	ManagementURL string
	User          string
	Password      string
	VHost         string
	container     testcontainers.Container
}

// Broker gives the test a virtual host of its own, which is removed at the end of the test.
func Broker(t testing.TB) *BrokerInfo {
	t.Helper()
	b := newVHost(t)
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/vhosts/"+b.VHost, nil, nil) })
	return b
}

// TLSBroker starts a broker for one test. It accepts only amqps, and only clients with a
// certificate of the same authority. They may also log in with it, as the user with its common
// name. The files are PEM.
func TLSBroker(t testing.TB, authority, certificate, key []byte) *BrokerInfo {
	t.Helper()
	const settings = `
listeners.ssl.default = 5671
ssl_options.cacertfile = /etc/rabbitmq/tls/ca.pem
ssl_options.certfile = /etc/rabbitmq/tls/server.pem
ssl_options.keyfile = /etc/rabbitmq/tls/server-key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
`
	files := map[string][]byte{
		"conf.d/20-tls.conf": []byte(settings), "tls/ca.pem": authority, "tls/server.pem": certificate, "tls/server-key.pem": key,
		"enabled_plugins": []byte("[rabbitmq_management,rabbitmq_auth_mechanism_ssl]."),
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

// own gives the virtual host "/" of a broker that no other test uses.
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

// Config gives settings to connect as the administrator.
func (b *BrokerInfo) Config() messaging.Config {
	return messaging.Config{URLs: []string{b.URL}, Name: "test"}
}

// Connect connects with the config, and closes the connection at the end of the test.
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
