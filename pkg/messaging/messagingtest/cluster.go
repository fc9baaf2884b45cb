package messagingtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
)

// ClusterInfo is a cluster of three brokers for one test.
type ClusterInfo struct {
	Nodes []*BrokerInfo
}

// Cluster starts three brokers and waits until they have formed a cluster. It takes half a
// minute on two cores.
func Cluster(t testing.TB) *ClusterInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	net, err := network.New(ctx, network.WithLabels(maps.Clone(labels)))
	testcontainers.CleanupNetwork(t, net)
	if err != nil {
		t.Fatalf("make a network: %v", err)
	}
	const nodes = 3
	settings := "cluster_formation.peer_discovery_backend = classic_config\n"
	for i := range nodes {
		settings += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = rabbit@rabbit%d\n", i+1, i+1)
	}
	c := &ClusterInfo{Nodes: make([]*BrokerInfo, nodes)}
	errs := make([]error, nodes)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			name := fmt.Sprintf("rabbit%d", i+1)
			started, err := startBroker(ctx,
				network.WithNetwork([]string{name}, net),
				testcontainers.WithEnv(map[string]string{
					"RABBITMQ_NODENAME":                   "rabbit@" + name,
					"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-setcookie of-a-test +sbwt none",
				}),
				testcontainers.WithConfigModifier(func(config *container.Config) { config.Hostname = name }),
				testcontainers.WithFiles(testcontainers.ContainerFile{
					Reader: strings.NewReader(settings), ContainerFilePath: "/etc/rabbitmq/conf.d/20-cluster.conf", FileMode: 0o644,
				}))
			testcontainers.CleanupContainer(t, started)
			if err != nil {
				errs[i] = err
				return
			}
			c.Nodes[i] = own(t, started)
		})
	}
	starting.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("start a cluster: %v", err)
		}
	}
	Eventually(t, time.Minute, func() (bool, string) {
		running := c.running(t, 0)
		return running == nodes, fmt.Sprintf("%d nodes run", running)
	})
	return c
}

// running is how many nodes run, according to one of them.
func (c *ClusterInfo) running(t testing.TB, node int) int {
	t.Helper()
	var nodes []struct {
		Running bool `json:"running"`
	}
	c.Nodes[node].Management(t, http.MethodGet, "/api/nodes", nil, &nodes)
	n := 0
	for _, node := range nodes {
		if node.Running {
			n++
		}
	}
	return n
}

// URLs gives the URLs of all nodes.
func (c *ClusterInfo) URLs() []string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.URL)
	}
	return urls
}

// Leader is the index of the node that leads a queue of the virtual host "/".
func (c *ClusterInfo) Leader(t testing.TB, queue string) int {
	t.Helper()
	var q struct {
		Leader string `json:"leader"`
		Node   string `json:"node"` // of a classic queue
	}
	c.Nodes[0].Management(t, http.MethodGet, "/api/queues/%2F/"+queue, nil, &q)
	if q.Leader == "" {
		q.Leader = q.Node
	}
	for i := range c.Nodes {
		if q.Leader == fmt.Sprintf("rabbit@rabbit%d", i+1) {
			return i
		}
	}
	t.Fatalf("the queue %q has no leader: %+v", queue, q)
	return 0
}

// Kill kills a node (SIGKILL).
func (c *ClusterInfo) Kill(t testing.TB, node int) {
	t.Helper()
	askDocker(t, func(ctx context.Context, docker *testcontainers.DockerClient) error {
		_, err := docker.ContainerKill(ctx, c.Nodes[node].container.GetContainerID(), client.ContainerKillOptions{Signal: "SIGKILL"})
		return err
	})
}

// Stop stops a node normally (SIGTERM).
func (c *ClusterInfo) Stop(t testing.TB, node int) {
	t.Helper()
	timeout := 30 * time.Second
	if err := c.Nodes[node].container.Stop(context.WithoutCancel(t.Context()), &timeout); err != nil {
		t.Fatalf("stop a node: %v", err)
	}
}

// Start starts a node that was killed or stopped, and returns when it has joined.
func (c *ClusterInfo) Start(t testing.TB, node int) {
	t.Helper()
	askDocker(t, func(ctx context.Context, docker *testcontainers.DockerClient) error {
		_, err := docker.ContainerStart(ctx, c.Nodes[node].container.GetContainerID(), client.ContainerStartOptions{})
		return err
	})
	Eventually(t, time.Minute, func() (bool, string) {
		running := c.running(t, (node+1)%len(c.Nodes))
		return running == len(c.Nodes), fmt.Sprintf("%d nodes run", running)
	})
}

// askDocker calls Docker directly, for what testcontainers has no function for.
func askDocker(t testing.TB, do func(context.Context, *testcontainers.DockerClient) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startTimeout)
	defer cancel()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		t.Fatalf("ask Docker: %v", err)
	}
	defer func() { _ = docker.Close() }()
	if err := do(ctx, docker); err != nil {
		t.Fatalf("ask Docker: %v", err)
	}
}
