package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"example.com/orderflow/pkg/service"
	billing "example.com/orderflow/services/billing/app"
	notifier "example.com/orderflow/services/notifier/app"
	orders "example.com/orderflow/services/orders/app"
	pricing "example.com/orderflow/services/pricing-rpc/app"
	sandbox "example.com/orderflow/tools/sandbox/app"
)

// processes are our processes that the compose file starts, with the functions that read their
// settings.
var processes = map[string]func() (service.HTTPConfig, error){
	"orders":  func() (service.HTTPConfig, error) { c, err := service.Load[orders.Config](); return c.HTTPConfig, err },
	"billing": func() (service.HTTPConfig, error) { c, err := service.Load[billing.Config](); return c.HTTPConfig, err },
	"notifier": func() (service.HTTPConfig, error) {
		c, err := service.Load[notifier.Config]()
		return c.HTTPConfig, err
	},
	"pricing-rpc": func() (service.HTTPConfig, error) { c, err := service.Load[pricing.Config](); return c.HTTPConfig, err },
	"sandbox":     func() (service.HTTPConfig, error) { c, err := service.Load[sandbox.Config](); return c.HTTPConfig, err },
}

type composeService struct {
	Environment     map[string]string `yaml:"environment"`
	Ports           []string          `yaml:"ports"`
	StopGracePeriod string            `yaml:"stop_grace_period"`
	Logging         struct {
		Driver  string            `yaml:"driver"`
		Options map[string]string `yaml:"options"`
	} `yaml:"logging"`
}

func composeServices(t *testing.T) map[string]composeService {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", "compose", "compose.yaml"))
	require.NoError(t, err)
	var file struct {
		Services map[string]composeService `yaml:"services"`
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.GreaterOrEqual(t, len(file.Services), 10)
	return file.Services
}

// setenv sets the environment of a container, and makes the files that it names.
func setenv(t *testing.T, environment map[string]string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("secret"), 0o600))
	for name, value := range environment {
		if strings.HasSuffix(name, "_FILE") {
			value = file
		}
		t.Setenv(name, value)
	}
}

// Each process accepts the settings in the compose file. stop_grace_period is longer than its
// STOP_TIMEOUT, which is long enough for the longest handler: otherwise the process would not
// start.
func TestTheComposeFileFitsTheServices(t *testing.T) {
	const margin = 3 * time.Second // for the end of the process, and docker's clock
	services := composeServices(t)
	for name, load := range processes {
		t.Run(name, func(t *testing.T) {
			s, there := services[name]
			require.True(t, there)
			setenv(t, s.Environment)
			config, err := load()
			require.NoError(t, err)
			grace, err := time.ParseDuration(s.StopGracePeriod)
			require.NoError(t, err)
			require.GreaterOrEqual(t, grace, config.StopTimeout+margin)
			require.Positive(t, config.DrainDelay)

			require.NotEmpty(t, config.AdminAddr)
			for _, published := range s.Ports {
				require.False(t, strings.HasSuffix(published, config.AdminAddr), "the admin port is not published: %s", published)
			}
		})
	}
	for name, s := range services {
		require.NotEmpty(t, s.Logging.Driver, name)
		require.NotEmpty(t, s.Logging.Options["max-size"], name)
		require.NotEmpty(t, s.Logging.Options["max-file"], name)
	}
}
