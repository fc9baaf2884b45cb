package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

// What a test has left behind is removed if its process is known to have ended. A process of
// another user or in another pid namespace counts as running.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	c := newStack(t, stack.Options{})
	ended := exec.CommandContext(t.Context(), "true")
	require.NoError(t, ended.Run())
	place, _, _ := strings.Cut(owner.Name(), "-")
	for name, l := range map[string]struct {
		owner  string
		hours  int
		remove bool
	}{
		"of a process that runs":             {owner.Name(), 0, false},
		"of another user's process":          {place + "-1", 0, false},
		"of a process that is gone":          {fmt.Sprintf("%s-%d", place, ended.Process.Pid), 24, true},
		"of another namespace or machine":    {fmt.Sprintf("0badcafe-%d", ended.Process.Pid), 24, false},
		"of another, older than it may live": {fmt.Sprintf("0badcafe-%d", os.Getpid()), -1, true},
		"of nobody known":                    {"4711", 24, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			removed := fmt.Sprintf(`source scripts/lib.sh; leftover_hours=%d; if is_gone %s "$(date -d '1 minute ago')"; then echo removed; fi`, l.hours, l.owner)
			require.Equal(t, l.remove, c.script(t, removed) != "")
		})
	}
}

// The same with containers, networks, volumes and images.
func TestLeftoversInDocker(t *testing.T) {
	t.Parallel()
	c := newStack(t, stack.Options{})
	ended := exec.CommandContext(t.Context(), "true")
	require.NoError(t, ended.Run())
	place, _, _ := strings.Cut(owner.Name(), "-")
	gone, there := fmt.Sprintf("%s-%d", place, ended.Process.Pid), "0badcafe-"+fmt.Sprint(os.Getpid())
	list := func() string {
		return c.script(t, fmt.Sprintf(`for who in %s %s; do
			docker ps -a --filter label=messagingtest.owner=$who --format '{{.Label "messagingtest.owner"}} container'
			docker network ls --filter label=messagingtest.owner=$who --format '{{.Label "messagingtest.owner"}} network'
			docker volume ls --filter label=com.docker.compose.project=orderflow-test-$who --format '{{.Label "com.docker.compose.project"}}'
			docker images "orderflow-test-$who/*" --format '{{.Repository}}'
		done`, gone, there))
	}
	t.Cleanup(func() {
		c.script(t, fmt.Sprintf(`source scripts/lib.sh
			docker ps -aq --filter label=messagingtest.owner=%[1]s | xargs -r docker rm -f
			docker network ls -q --filter label=messagingtest.owner=%[1]s | xargs -r docker network rm
			remove_project orderflow-test-%[1]s`, there))
	})
	c.script(t, fmt.Sprintf(`source scripts/lib.sh; for who in %s %s; do
		docker create --label messagingtest.owner=$who "$(setting POSTGRES_IMAGE)"
		docker network create --label messagingtest.owner=$who orderflow-test-$who
		docker volume create --label com.docker.compose.project=orderflow-test-$who
		docker tag "$(setting POSTGRES_IMAGE)" orderflow-test-$who/orders
	done`, gone, there))
	require.Equal(t, 8, strings.Count(list(), "\n"))
	c.script(t, "source scripts/lib.sh; remove_leftovers")
	require.NotEmpty(t, c.script(t, `source scripts/lib.sh; docker image inspect "$(setting POSTGRES_IMAGE)"`), "the same image by another name")
	require.Equal(t, fmt.Sprintf("%[1]s container\n%[1]s network\norderflow-test-%[1]s\norderflow-test-%[1]s/orders\n", there), list())
}
