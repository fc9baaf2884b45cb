package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"example.com/orderflow/pkg/messaging"
)

// permission has a broker user's permissions in the broker's form: regular expressions for the
// names of exchanges and queues.
type permission struct {
	User      string   `json:"user"`
	Tags      []string `json:"tags"`
	Configure string   `json:"configure"`
	Write     string   `json:"write"`
	Read      string   `json:"read"`
}

func permissionsCommand() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "permissions",
		Short: "Print the permissions of each service's broker user; needs no broker",
		Long:  "Print the permissions of each service's broker user, from the contract; needs no broker. With REGION, those on that region's broker.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := env.ParseAs[struct {
				Region string `env:"REGION"`
			}]()
			if err != nil {
				return err
			}
			topology, err := topologyOf(config.Region, 0)
			if err != nil {
				return err
			}
			list := permissions(topology.Users)
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetEscapeHTML(false)
				encoder.SetIndent("", "  ")
				return encoder.Encode(list)
			}
			return writePermissions(cmd.OutOrStdout(), list)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// permissions returns the users' permissions, sorted by user.
func permissions(users []messaging.User) []permission {
	list := make([]permission, 0, len(users))
	for _, u := range users {
		list = append(list, permission{u.Name, append([]string{}, u.Tags...), u.Configure, u.Write, u.Read})
	}
	slices.SortFunc(list, func(a, b permission) int { return cmp.Compare(a.User, b.User) })
	return list
}

// writePermissions writes one line for each permission, so that the output can be searched.
func writePermissions(out io.Writer, list []permission) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { _, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", cells...) } // Flush has the error
	row("USER", "RIGHT", "NAMES")
	for _, p := range list {
		row(p.User, "configure", p.Configure)
		row(p.User, "write", p.Write)
		row(p.User, "read", p.Read)
		for _, tag := range p.Tags {
			row(p.User, "tag", tag)
		}
	}
	return table.Flush()
}
