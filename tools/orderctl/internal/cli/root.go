// Package cli has the commands of orderctl, one file for each group.
package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// Root makes the root command with all commands.
func Root() *cobra.Command {
	root := &cobra.Command{
		Use:           "orderctl",
		Short:         "Set Orderflow up and operate it",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().Duration("timeout", 2*time.Minute, "give up after this long")
	root.AddCommand(setupCommand(), topologyCommand())
	return root
}
