package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"example.com/orderflow/tools/orderctl/setup"
)

func setupCommand() *cobra.Command {
	group := &cobra.Command{Use: "setup", Short: "Make what the system needs before its first start"}
	var dirs setup.Dirs
	secrets := &cobra.Command{
		Use:   "secrets",
		Short: "Make the missing passwords, each readable only by its service",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := setup.Secrets(dirs)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d secrets made, the others existed\n", made)
			return err
		},
	}
	var authority string
	certificates := &cobra.Command{
		Use:   "certificates",
		Short: "Make an authority and the certificates of broker and services; renew those that expire within a month",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := setup.Certificates(dirs, authority, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d certificates made, the others existed\n", made)
			return err
		},
	}
	certificates.Flags().StringVar(&authority, "authority-dir", "/run/secrets/authority", "the authority's certificate and key")
	databases := &cobra.Command{
		Use:   "databases",
		Short: "Make a database and a role for each service, and the read-only role ledger",
		Long:  "Make a database and a role for each service, and the read-only role ledger.\nDATABASE_URL names the server and its administrator.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := env.ParseAs[struct {
				URL string `env:"DATABASE_URL,required,notEmpty"`
			}]()
			if err != nil {
				return err
			}
			return withTimeout(cmd, func(ctx context.Context) error {
				if err := setup.Databases(ctx, config.URL, dirs); err != nil {
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "databases and roles exist")
				return err
			})
		},
	}
	for _, c := range []*cobra.Command{secrets, certificates, databases} {
		dirFlags(c, &dirs)
		group.AddCommand(c)
	}
	return group
}

// dirFlags adds the flags for the directories of secrets. The defaults are those in the
// containers.
func dirFlags(c *cobra.Command, dirs *setup.Dirs) {
	c.Flags().StringVar(&dirs.Services, "services-dir", "/run/secrets/orderflow", "secrets of the services")
	c.Flags().StringVar(&dirs.RabbitMQ, "rabbitmq-dir", "/run/secrets/rabbitmq", "secrets of the broker")
	c.Flags().StringVar(&dirs.PostgreSQL, "postgres-dir", "/run/secrets/postgres", "secrets of the database server")
}

func withTimeout(cmd *cobra.Command, f func(ctx context.Context) error) error {
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	return f(ctx)
}
