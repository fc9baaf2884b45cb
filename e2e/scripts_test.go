package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

// scripts copies the repository's scripts into a folder whose name has a space, with a fake
// docker command that has some images, and a registry with others. Each line of the files is an
// image and the version of its Go.
func scripts(t *testing.T, here, registry string) (root string, run func(environment ...string) (string, error)) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "a tree")
	for _, dir := range []string{"scripts", "deploy/compose/images/standin"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("..", dir))))
	}
	const docker = `#!/bin/bash
cd "$(dirname "$0")/.."
case "$1 $2" in
"image inspect") grep -q "^$3 " here ;;
"pull -q") grep "^$3 " registry >pulled && { grep -v "^$3 " here; cat pulled; } >new && mv new here ;;
"run --rm") sed -n "s|^$7 |go|p" here ;;
*) exit 9 ;;
esac
`
	for name, content := range map[string]string{
		"here": here, "registry": registry, "bin/docker": docker, "go.work": "go 1.26.8\n",
		"deploy/compose/.env": "RABBITMQ_IMAGE=rabbitmq:1\nPOSTGRES_IMAGE=postgres:1\nGO_IMAGE=golang:1\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o755))
	}
	return root, func(environment ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", filepath.Join(root, "scripts", "images.sh"))
		cmd.Env = append([]string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}, environment...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// A local image is used only if it is the right one, and a user's choice is never changed
// silently.
func TestImages(t *testing.T) {
	t.Parallel()
	const standins = "orderflow-standin/rabbitmq:3 1.26.10\norderflow-standin/postgres:3 1.26.10\norderflow-standin/golang:3 1.26.10\n"
	const servers = "rabbitmq:1 -\npostgres:1 -\n"
	for name, c := range map[string]struct {
		here, registry, env, chosen, says, goImage string
		fails                                      bool
	}{
		"all is here":                         {here: servers + "golang:1 1.26.8\n"},
		"Go is too old, and pulled":           {here: servers + "golang:1 1.26.5\n", registry: "golang:1 1.26.10\n", says: "pulling golang:1"},
		"Go is too old, and no registry":      {here: servers + standins + "golang:1 1.26.5\n", says: "for: GO_IMAGE;", goImage: "orderflow-standin/golang:3"},
		"no registry":                         {here: standins, says: "for: RABBITMQ_IMAGE POSTGRES_IMAGE GO_IMAGE;", goImage: "orderflow-standin/golang:3"},
		"a stand-in of another recipe":        {here: servers + standins + "orderflow-standin/golang:2 1.26.10\n", env: "GO_IMAGE=orderflow-standin/golang:2\n", says: "for: GO_IMAGE;", goImage: "orderflow-standin/golang:3"},
		"one that .env names is gone":         {here: standins + servers, env: "GO_IMAGE=corp/go:1\n", says: "GO_IMAGE is corp/go:1, which is not here and cannot be pulled", fails: true, goImage: "corp/go:1"},
		"one that .env names can be had":      {here: servers, registry: "corp/go:1 1.27.0\n", env: "GO_IMAGE=\"corp/go:1\"\n", goImage: "\"corp/go:1\""},
		"one that the environment names":      {here: servers + "golang:1 1.26.8\ncorp/go:2 1.26.1\n", chosen: "GO_IMAGE=corp/go:2", says: "its Go is 1.26.1, and go.work asks for 1.26.8", fails: true},
		"no Go in what the environment names": {here: servers + "golang:1 1.26.8\n", chosen: "GO_IMAGE=rabbitmq:1", says: "its Go is none", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, run := scripts(t, c.here, c.registry)
			require.NoError(t, os.WriteFile(filepath.Join(root, ".env"), []byte("MINE=1\n"+c.env), 0o600))
			out, err := run(c.chosen)
			require.Equal(t, c.fails, err != nil, out)
			require.Contains(t, out, c.says)
			if c.says == "" {
				require.NotContains(t, out, "stand-ins")
			}
			env, err := os.ReadFile(filepath.Join(root, ".env"))
			require.NoError(t, err)
			require.Contains(t, string(env), "MINE=1\n")
			require.Equal(t, c.goImage != "", strings.Contains(string(env), "GO_IMAGE="+c.goImage+"\n"), string(env))
		})
	}
}

// An interrupted step ends: it does not continue in the background.
func TestAnInterruptedStepEnds(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			pids := filepath.Join(t.TempDir(), "pids")
			const script = `source ../scripts/lib.sh; step() { sleep 600 & echo $! >"$1.new"; mv "$1.new" "$1"; wait; }; with_progress "a step" step "$1"`
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script, "step", pids)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			require.NoError(t, cmd.Start())
			var content []byte
			messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
				var err error
				content, err = os.ReadFile(pids)
				return err == nil, "no step"
			})
			require.NoError(t, syscall.Kill(-cmd.Process.Pid, signal))
			require.Error(t, cmd.Wait())
			pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
			require.NoError(t, err)
			messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
				return syscall.Kill(pid, 0) != nil, "the step goes on"
			})
		})
	}
}

// Two runs in one tree do not run a locked step at the same time.
func TestTwoRunsInOneTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const script = `source ../scripts/lib.sh; cache=$1; lock test >/dev/null; for i in {1..50}; do n=$(cat "$1/n"); echo $((n + 1)) >"$1/n"; done`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "n"), []byte("0"), 0o600))
	var runs []*exec.Cmd
	for range 4 {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script, "run", dir)
		require.NoError(t, cmd.Start())
		runs = append(runs, cmd)
	}
	for _, cmd := range runs {
		require.NoError(t, cmd.Wait())
	}
	n, err := os.ReadFile(filepath.Join(dir, "n"))
	require.NoError(t, err)
	require.Equal(t, "200\n", string(n))
}
