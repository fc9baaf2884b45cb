package stack

import (
	"context"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
)

// startProxy puts toxiproxy between billing and the broker. Its binary is built here and
// copied into a container of an image that is already used, so that nothing is pulled.
func (s *Stack) startProxy(ctx context.Context) error {
	_, err := s.Script(ctx, fmt.Sprintf(`source scripts/lib.sh
		(cd e2e && CGO_ENABLED=0 go build -trimpath -o "$cache/toxiproxy" github.com/Shopify/toxiproxy/v2/cmd/server)
		docker create --name %[1]s-toxiproxy --label com.docker.compose.project=%[1]s --network %[2]s --network-alias toxiproxy \
			--publish %[3]s:8474 --user 65534 --entrypoint /toxiproxy "$(setting POSTGRES_IMAGE)" -host 0.0.0.0
		docker cp "$cache/toxiproxy" %[1]s-toxiproxy:/toxiproxy
		docker start %[1]s-toxiproxy`, s.Project, s.Network(), s.Address(proxyPort)))
	if err != nil {
		return err
	}
	client := toxiproxy.NewClient(s.Address(proxyPort))
	err = Poll(ctx, 10*time.Second, func() error {
		s.Proxy, err = client.CreateProxy("billing", "0.0.0.0:5672", "rabbitmq:5672")
		return err
	})
	s.overlays = "e2e/internal/stack/proxy.yaml"
	return err
}
