package messaging_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that takes only this package gets four modules with it, and those of
// databases and telemetry with the packages that are for them. So nothing here may import
// more without a decision.
func TestWhatAModuleThatUsesThisNeeds(t *testing.T) {
	t.Parallel()
	base := []string{"github.com/google/uuid", "github.com/rabbitmq/amqp091-go", "go.uber.org/multierr", "go.uber.org/zap"}
	pgx := []string{
		"github.com/jackc/pgpassfile", "github.com/jackc/pgservicefile", "github.com/jackc/pgx/v5", "github.com/jackc/puddle/v2",
		"golang.org/x/sync", "golang.org/x/text",
	}
	otel := []string{
		"github.com/cespare/xxhash/v2", "github.com/go-logr/logr", "github.com/go-logr/stdr", "go.opentelemetry.io/auto/sdk",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/log", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace",
	}
	for path, more := range map[string][]string{"": nil, "/inbox": pgx, "/outbox": pgx, "/otelmessaging": otel} {
		t.Run("messaging"+path, func(t *testing.T) {
			t.Parallel()
			require.ElementsMatch(t, append(base[:len(base):len(base)], more...), requirements(t, path))
		})
	}
}

const module = "example.com/orderflow/pkg/messaging"

// requirements are the indirect ones of a new module that imports one package of ours. It
// is made from what is in the module cache, which has all that these tests are built from.
func requirements(t *testing.T, path string) (names []string) {
	t.Helper()
	here, err := os.Getwd()
	require.NoError(t, err)
	sums, err := os.ReadFile("go.sum")
	require.NoError(t, err)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module scratch\n\ngo 1.26.0\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + here + "\n",
		"go.sum":  string(sums),
		"main.go": "package main\n\nimport _ \"" + module + path + "\"\n\nfunc main() {}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	tidy := exec.CommandContext(t.Context(), "go", "mod", "tidy")
	tidy.Dir = dir
	tidy.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := tidy.CombinedOutput()
	require.NoError(t, err, "%s", out)
	made, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`(\S+) \S+ // indirect`).FindAllStringSubmatch(string(made), -1) {
		names = append(names, found[1])
	}
	return names
}

// No default, metric, header or text carries the name of the system that this was made
// for. Import paths do, and the scope of the instruments is one.
func TestNoNameOfThisSystem(t *testing.T) {
	t.Parallel()
	name := strings.Split(module, "/")[1]
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && strings.Contains(strings.ReplaceAll(literal.Value, module, ""), name) {
				t.Errorf("%s: %s", path, literal.Value)
			}
			return true
		})
		return nil
	}))
}
