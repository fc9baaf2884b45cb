// Package stack starts a complete Orderflow in containers, as `make up` does: a compose project
// with a unique name and unique ports. Tests and `make chaos` use it. Stop removes it with
// everything that belongs to it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

// Services are the services that Options.Replicas applies to. The servers and the sandbox have
// one container each.
var Services = []string{"orders", "billing", "notifier", "pricing-rpc"}

// Options are the options of a stack. The zero value starts what `make up` starts.
type Options struct {
	// Name is a part of the name of the compose project, so that one process can have several.
	Name string
	// With are the overlays, as in `make up WITH=...`.
	With string
	// Replicas is the number of replicas of each service; the default is 1.
	Replicas int
	// Proxy puts toxiproxy between billing and the broker.
	Proxy bool
	// Settings are variables of the compose files, PAYMENT_DEADLINE for example.
	Settings map[string]string
}

// Stack is a compose project.
type Stack struct {
	// Project is its name. scripts/test.sh removes the projects of processes that have ended.
	Project string
	// Nodes are the names of the broker's containers.
	Nodes []string
	// HTTP is a client for the published ports of the stack.
	HTTP *http.Client
	// Proxy is between billing and the broker, or nil without Options.Proxy.
	Proxy *toxiproxy.Proxy

	root      string // of the repository
	options   Options
	ports     map[string]string // by their variables; for replicas "first-last"
	overlays  string            // further compose files, for OVERLAYS
	passwords passwords
}

// New makes a stack that is not started. Its scripts use its own project.
func New(options Options) (*Stack, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	s := &Stack{
		Project: "orderflow-test-" + owner.Name(), Nodes: []string{"rabbitmq"},
		HTTP: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		root: root, options: options,
	}
	if options.Name != "" {
		s.Project = "orderflow-test-" + options.Name + "-" + owner.Name()
	}
	if strings.Contains(options.With, "cluster") {
		s.Nodes = append(s.Nodes, "rabbitmq-2", "rabbitmq-3")
	}
	s.ports, err = choosePorts(root, options)
	return s, err
}

// Start starts the stack and waits until it is ready. Call Stop to remove it, also after an
// error.
func (s *Stack) Start(ctx context.Context) error {
	if _, err := s.Script(ctx, "WITH="+s.options.With+" scripts/up.sh"); err != nil {
		return err
	}
	if s.options.Proxy {
		if err := s.startProxy(ctx); err != nil {
			return err
		}
	}
	if !s.options.Proxy && s.options.Replicas <= 1 {
		return nil
	}
	up := "up --detach --no-build --wait --wait-timeout 180"
	for _, service := range Services {
		up += fmt.Sprintf(" --scale %s=%d", service, s.Replicas(service))
	}
	_, err := s.Compose(ctx, up)
	return err
}

// Stop removes containers, networks, volumes and built images. The base images are
// kept, since others use them.
func (s *Stack) Stop(ctx context.Context) error {
	s.HTTP.CloseIdleConnections()
	_, err := s.Script(ctx, "source scripts/lib.sh; remove_project "+s.Project)
	return err
}

// Replicas is how many containers a service has.
func (s *Stack) Replicas(service string) int {
	for _, name := range Services {
		if name == service {
			return max(s.options.Replicas, 1)
		}
	}
	return 1
}

// Ports are the published ports by their variables in the compose files. With replicas
// that of orders is "first-last".
func (s *Stack) Ports() map[string]string { return s.ports }

// Address is the host and the port of a variable in the compose files; with replicas, that
// of the first.
func (s *Stack) Address(variable string) string {
	first, _, _ := strings.Cut(s.ports[variable], "-")
	return "127.0.0.1:" + first
}

// Orders returns the URL of one of the replicas of orders, as a load balancer would choose.
func (s *Stack) Orders() string {
	return fmt.Sprintf("http://127.0.0.1:%d", firstPort(s.ports["ORDERS_PORT"])+rand.IntN(s.Replicas("orders")))
}

// Script runs a shell command in the repository's root, with the stack's environment. It
// returns the output also with an error; the text of the error has the last lines.
func (s *Stack) Script(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", command) //nolint:gosec // our own commands
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+s.Project, "OVERLAYS="+s.overlays)
	for _, variables := range []map[string]string{s.options.Settings, s.ports} {
		for name, value := range variables {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	// After SIGTERM the shell ends the processes that it has started; after SIGKILL it could not.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 20*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", command, err, lastLines(string(out), 10))
	}
	return string(out), err
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// Compose runs `docker compose` on the project.
func (s *Stack) Compose(ctx context.Context, arguments string) (string, error) {
	return s.Script(ctx, "source scripts/lib.sh; compose "+arguments)
}

// Docker runs a docker command on all containers of a service at once.
func (s *Stack) Docker(ctx context.Context, command, service string) error {
	_, err := s.Script(ctx, fmt.Sprintf("docker %s $(docker ps -aq --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=%s)", command, s.Project, service))
	return err
}

// DockerOne runs a docker command on one container of a service. They are numbered from 1.
func (s *Stack) DockerOne(ctx context.Context, command, service string, number int) error {
	_, err := s.Script(ctx, "docker "+command+" "+s.Container(service, number))
	return err
}

// Container is the name of a service's container.
func (s *Stack) Container(service string, number int) string {
	return fmt.Sprintf("%s-%s-%d", s.Project, service, number)
}

// Network is the name of the network of all containers.
func (s *Stack) Network() string { return s.Project + "_default" }

// repository is the folder with go.work, found from the current directory upwards.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("not inside the repository")
}

// Poll calls try every 100 ms until it returns no error. After the timeout it returns the last
// error.
func Poll(ctx context.Context, timeout time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Wait waits for d, or until ctx is done, which is an error.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
