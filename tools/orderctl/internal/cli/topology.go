package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/tools/orderctl/setup"
)

// topologyConfig is read from the environment.
type topologyConfig struct {
	AMQPURL         string        `env:"AMQP_URLS,required,notEmpty"`
	ManagementURL   string        `env:"MANAGEMENT_URL,required,notEmpty"`
	PaymentDeadline time.Duration `env:"PAYMENT_DEADLINE"`
	Region          string        `env:"REGION"`
	// Upstreams are the other regions' brokers, by region.
	Upstreams map[string]string `env:"UPSTREAMS" envKeyValSeparator:"="`
	// For amqps and https URLs, as in services.
	CAFile          string `env:"AMQP_CA_FILE"`
	CertificateFile string `env:"AMQP_CERTIFICATE_FILE"`
	KeyFile         string `env:"AMQP_KEY_FILE"`
}

// topologyOf is a region's topology, or with an empty region that of a single broker.
func topologyOf(region string, paymentDeadline time.Duration) (messaging.Topology, error) {
	if region == "" {
		return contract.All(paymentDeadline), nil
	}
	t, err := contract.InRegion(region, paymentDeadline)
	if err != nil {
		return t, fmt.Errorf("REGION: %w", err)
	}
	return t, nil
}

// upstreams are the brokers whose events are federated to this region. Their user has the same
// password in all regions.
func (c topologyConfig) upstreams(dirs setup.Dirs) (list []messaging.Upstream, err error) {
	if len(c.Upstreams) == 0 {
		return nil, nil
	}
	password, err := dirs.BrokerPassword(contract.FederationUser)
	if err != nil {
		return nil, err
	}
	for name, url := range c.Upstreams {
		list = append(list, messaging.Upstream{Name: name, URL: url, User: contract.FederationUser, Password: password})
	}
	return list, nil
}

var errDiffers = errors.New("the broker differs from the contract")

func topologyCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "topology",
		Short: "Apply the contract's topology to the broker, compare the two, or print the permissions",
		Long: "Apply the contract's topology to the broker, compare the two, or print the permissions.\n" +
			"AMQP_URLS and MANAGEMENT_URL name the broker, PAYMENT_DEADLINE (default 15m) is how long an order may stay unpaid.\n" +
			"When apply makes it shorter, it warns if orders still wait with the longer one: new orders wait behind them.\n" +
			"If each region has a broker: REGION is the region of this one, UPSTREAMS (us=amqp://host:5672) the brokers whose order events come here.\n" +
			"For amqps and https, AMQP_CA_FILE, AMQP_CERTIFICATE_FILE and AMQP_KEY_FILE name PEM files.",
	}
	group.AddCommand(applyCommand(), verifyCommand(), permissionsCommand())
	return group
}

func applyCommand() *cobra.Command {
	var dirs setup.Dirs
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Create or update the users, permissions, policies, exchanges, queues and bindings of the contract",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBroker(cmd, dirs, func(ctx context.Context, admin messaging.Admin, topology messaging.Topology, upstreams []messaging.Upstream) error {
				return applyTopology(ctx, cmd, dirs, admin, topology, upstreams)
			})
		},
	}
	dirFlags(cmd, &dirs)
	return cmd
}

func applyTopology(ctx context.Context, cmd *cobra.Command, dirs setup.Dirs, admin messaging.Admin, topology messaging.Topology, upstreams []messaging.Upstream) error {
	warnings, err := shortened(ctx, admin, topology)
	if err != nil {
		return err
	}
	if err := messaging.Apply(ctx, admin, topology); err != nil {
		return err
	}
	for _, w := range warnings {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), w); err != nil {
			return err
		}
	}
	if err := messaging.ApplyUsers(ctx, admin, topology.Users, dirs.BrokerPassword); err != nil {
		return err
	}
	if len(upstreams) > 0 {
		if err := messaging.ApplyUpstreams(ctx, admin, upstreams); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "applied %d exchanges, %d queues, %d bindings and %d users\n",
		len(topology.Exchanges), len(topology.Queues), len(topology.Bindings), len(topology.Users))
	return err
}

func verifyCommand() *cobra.Command {
	var dirs setup.Dirs
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "List every difference between the broker's effective settings and the contract",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBroker(cmd, dirs, func(ctx context.Context, admin messaging.Admin, topology messaging.Topology, _ []messaging.Upstream) error {
				return verifyTopology(ctx, cmd.OutOrStdout(), admin, topology)
			})
		},
	}
	dirFlags(cmd, &dirs)
	return cmd
}

// verifyTopology prints each difference, and returns errDiffers if there is one.
func verifyTopology(ctx context.Context, out io.Writer, admin messaging.Admin, topology messaging.Topology) error {
	differences, err := messaging.Verify(ctx, admin, topology)
	if err != nil {
		return err
	}
	for _, d := range differences {
		if _, err := fmt.Fprintln(out, d); err != nil {
			return err
		}
	}
	if len(differences) > 0 {
		return fmt.Errorf("%w in %d places", errDiffers, len(differences))
	}
	_, err = fmt.Fprintln(out, "the broker is as the contract says")
	return err
}

// withBroker reads the environment and the secrets, and calls f with the broker and the
// topology.
func withBroker(cmd *cobra.Command, dirs setup.Dirs, f func(context.Context, messaging.Admin, messaging.Topology, []messaging.Upstream) error) error {
	config, err := env.ParseAs[topologyConfig]()
	if err != nil {
		return err
	}
	topology, err := topologyOf(config.Region, config.PaymentDeadline)
	if err != nil {
		return err
	}
	upstreams, err := config.upstreams(dirs)
	if err != nil {
		return err
	}
	password, err := dirs.AdminPassword()
	if err != nil {
		return err
	}
	tls, err := messaging.LoadTLS(config.CAFile, config.CertificateFile, config.KeyFile)
	if err != nil {
		return err
	}
	admin := messaging.Admin{AMQPURL: config.AMQPURL, ManagementURL: config.ManagementURL, User: setup.BrokerAdmin, Password: password, TLS: tls}
	return withTimeout(cmd, func(ctx context.Context) error {
		return f(ctx, admin, topology, upstreams)
	})
}
