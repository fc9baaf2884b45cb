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

	docker "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
)

// RegionsInfo has brokers for one test that can be federated.
type RegionsInfo struct {
	Brokers map[string]*BrokerInfo
	between string // the network between the brokers
}

// Regions starts a broker for each name, with the plugin rabbitmq_federation. They reach each
// other under these names, as amqp://NAME:5672. It takes 15 s on two cores.
func Regions(t testing.TB, names ...string) *RegionsInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	// An internal network: Docker never publishes ports over it, so these stay when it is cut.
	between, err := network.New(ctx, network.WithLabels(maps.Clone(labels)), network.WithInternal())
	testcontainers.CleanupNetwork(t, between)
	if err != nil {
		t.Fatalf("make a network: %v", err)
	}
	file := func(path, content string) testcontainers.ContainerFile {
		return testcontainers.ContainerFile{Reader: strings.NewReader(content), ContainerFilePath: "/etc/rabbitmq/" + path, FileMode: 0o644}
	}
	brokers := make([]*BrokerInfo, len(names))
	errs := make([]error, len(names))
	var starting sync.WaitGroup
	for i, name := range names {
		starting.Go(func() {
			started, err := startBroker(ctx,
				network.WithBridgeNetwork(),
				network.WithNetwork([]string{name}, between),
				testcontainers.WithFiles(
					file("enabled_plugins", "[rabbitmq_management,rabbitmq_federation_management]."),
					file("conf.d/20-region.conf", "cluster_name = "+name+"\n")))
			testcontainers.CleanupContainer(t, started)
			if err != nil {
				errs[i] = err
				return
			}
			brokers[i] = own(t, started)
		})
	}
	starting.Wait()
	r := &RegionsInfo{Brokers: map[string]*BrokerInfo{}, between: between.Name}
	for i, name := range names {
		if errs[i] != nil {
			t.Fatalf("start the broker of %s: %v", name, errs[i])
		}
		r.Brokers[name] = brokers[i]
	}
	return r
}

// AwaitLinks waits until every broker's links to all others run. Messages that were published
// before are not copied.
func (r *RegionsInfo) AwaitLinks(t testing.TB) {
	t.Helper()
	for name, b := range r.Brokers {
		Eventually(t, time.Minute, func() (bool, string) {
			var links []struct{ Upstream, Status, Error string }
			b.Management(t, http.MethodGet, "/api/federation-links", nil, &links)
			running := 0
			for _, l := range links {
				if l.Status == "running" {
					running++
				}
			}
			return running >= len(r.Brokers)-1, fmt.Sprintf("links of %s: %+v", name, links)
		})
	}
}

// Cut disconnects a broker from the network between the brokers. Connections are not closed,
// but carry no data any more. The test's own connections go on.
func (r *RegionsInfo) Cut(t testing.TB, name string) {
	t.Helper()
	askDocker(t, func(ctx context.Context, c *testcontainers.DockerClient) error {
		_, err := c.NetworkDisconnect(ctx, r.between, client.NetworkDisconnectOptions{Container: r.Brokers[name].container.GetContainerID()})
		return err
	})
}

// Heal ends a Cut.
func (r *RegionsInfo) Heal(t testing.TB, name string) {
	t.Helper()
	options := client.NetworkConnectOptions{
		Container:      r.Brokers[name].container.GetContainerID(),
		EndpointConfig: &docker.EndpointSettings{Aliases: []string{name}},
	}
	askDocker(t, func(ctx context.Context, c *testcontainers.DockerClient) error {
		_, err := c.NetworkConnect(ctx, r.between, options)
		return err
	})
}
