package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/e2e/internal/stack"
)

// The configuration that compose makes of the overlays. Nothing is started.
func TestOverlays(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	for i, with := range []string{"", "cluster", "tls", "cluster,tls", "federation"} {
		t.Run("with "+with, func(t *testing.T) {
			t.Parallel()
			c := newStack(t, stack.Options{Name: fmt.Sprintf("overlay-%d", i)})
			t.Cleanup(func() { require.NoError(t, os.Remove(filepath.Join(root, ".cache", "with-"+c.Project))) })
			var config struct {
				Services map[string]struct {
					Image       string            `json:"image"`
					Environment map[string]string `json:"environment"`
					ReadOnly    bool              `json:"read_only"`
					CapDrop     []string          `json:"cap_drop"`
					Ports       []struct {
						HostIP string `json:"host_ip"`
						Target int    `json:"target"`
					} `json:"ports"`
					Volumes []struct {
						Source string `json:"source"`
					} `json:"volumes"`
				} `json:"services"`
			}
			out := c.script(t, "source scripts/lib.sh; choose_overlays '"+with+"'; compose config --format json")
			require.NoError(t, json.Unmarshal([]byte(out), &config))
			cluster, tls := strings.Contains(with, "cluster"), strings.Contains(with, "tls")
			brokers := 0
			for name, s := range config.Services {
				require.NotEmpty(t, s.Image, name)
				require.True(t, s.ReadOnly, name)
				require.Equal(t, []string{"ALL"}, s.CapDrop, name)
				for _, p := range s.Ports {
					require.Equal(t, "127.0.0.1", p.HostIP, name)
					require.False(t, tls && p.Target == 5672, "%s publishes AMQP without TLS", name)
				}
				for _, v := range s.Volumes {
					require.False(t, v.Source == "authority" && name != "certificates", "%s could sign certificates", name)
				}
				if strings.HasPrefix(name, "rabbitmq") {
					brokers++
				}
				if urls := s.Environment["AMQP_URLS"]; urls != "" {
					scheme, nodes := "amqp", 1
					if tls {
						scheme = "amqps"
						for _, file := range []string{"AMQP_CA_FILE", "AMQP_CERTIFICATE_FILE", "AMQP_KEY_FILE"} {
							require.Regexp(t, `^/run/secrets/orderflow/`+regexp.QuoteMeta(strings.Replace(name, "topology", "operator", 1))+`/`, s.Environment[file], name)
						}
					}
					if cluster && name != "topology" {
						nodes = 3
					}
					for _, url := range strings.Split(urls, ",") {
						require.True(t, strings.HasPrefix(url, scheme+"://rabbitmq"), url)
						nodes--
					}
					require.Zero(t, nodes, name)
				}
			}
			require.Equal(t, map[string]int{"": 1, "tls": 1, "federation": 2, "cluster": 3, "cluster,tls": 3}[with], brokers)
			_, certificates := config.Services["certificates"]
			require.Equal(t, tls, certificates)
		})
	}
	for with, want := range map[string]string{
		"cluser":         "there is no overlay cluser; there is: cluster federation tls\n",
		"cluster+tls":    "there is no overlay cluster+tls",
		"federation,tls": "goes with no other",
	} {
		t.Run("not with "+with, func(t *testing.T) {
			t.Parallel()
			c := newStack(t, stack.Options{Name: "no-overlay"})
			require.Contains(t, c.script(t, "source scripts/lib.sh; if (choose_overlays "+with+") 2>&1; then exit 1; fi"), want)
		})
	}
}
