package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/tools/orderctl/internal/cli"
)

// run runs orderctl and returns its output.
func run(t *testing.T, arguments ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := cli.Root()
	root.SetArgs(arguments)
	root.SetOut(&out)
	require.NoError(t, root.ExecuteContext(t.Context()))
	return out.String()
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	users := contract.All(0).Users
	lines := strings.Split(strings.TrimSpace(run(t, "topology", "permissions")), "\n")
	require.Equal(t, []string{"USER", "RIGHT", "NAMES"}, strings.Fields(lines[0]))
	rights := map[string]string{} // by user and right
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		require.Len(t, cells, 3, line)
		rights[cells[0]+" "+cells[1]] = cells[2]
	}
	for _, u := range users {
		require.Equal(t, u.Configure, rights[u.Name+" configure"])
		require.Equal(t, u.Write, rights[u.Name+" write"])
		require.Equal(t, u.Read, rights[u.Name+" read"])
	}
}

func TestPermissionsAsJSON(t *testing.T) {
	t.Parallel()
	var list []struct {
		User, Configure, Write, Read string
		Tags                         []string
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, "topology", "permissions", "--json")), &list))
	users := contract.All(0).Users
	require.Len(t, list, len(users))
	got := map[string][]string{}
	for i, p := range list {
		got[p.User] = []string{p.Configure, p.Write, p.Read, strings.Join(p.Tags, ",")}
		require.NotNil(t, p.Tags, "an empty list, not null")
		require.True(t, i == 0 || list[i-1].User < p.User, "in order")
	}
	for _, u := range users {
		require.Equal(t, []string{u.Configure, u.Write, u.Read, strings.Join(u.Tags, ",")}, got[u.Name])
	}
}

func TestPermissionsInARegion(t *testing.T) {
	t.Setenv("REGION", contract.RegionUS)
	topology, err := contract.InRegion(contract.RegionUS, 0)
	require.NoError(t, err)
	link := topology.Users[len(topology.Users)-1]
	printed := run(t, "topology", "permissions")
	require.Contains(t, printed, "\n"+link.Name+"   read       "+link.Read+"\n")

	manual, err := os.ReadFile("../../../../docs/security.md")
	require.NoError(t, err)
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, link.Name) {
			require.Contains(t, string(manual), "\n"+line)
		}
	}
}

// The table in docs/security.md is the output of the command.
func TestPermissionsInTheManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../../../docs/security.md")
	require.NoError(t, err)
	require.Contains(t, string(manual), "\n```text\n$ orderctl topology permissions\n"+run(t, "topology", "permissions")+"```\n",
		"put what `orderctl topology permissions` prints into docs/security.md")
}
