package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
)

// wireName is "order.placed.v1", and "order.placed.v2" later.
var wireName = regexp.MustCompile(`^([a-z.]+)\.v([1-9])$`)

// goName returns the Go name of a message type, as doc.go says.
func goName(t *testing.T, wire string) string {
	t.Helper()
	parts := wireName.FindStringSubmatch(wire)
	require.NotNil(t, parts, wire)
	var name strings.Builder
	for _, word := range strings.Split(parts[1], ".") {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	if parts[2] != "1" {
		name.WriteString("V" + parts[2])
	}
	return name.String()
}

// declared returns the wire names of the message types, by their variables.
func declared(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	names := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			literal, ok := spec.Values[0].(*ast.CompositeLit)
			if !ok {
				return true
			}
			kind, ok := literal.Type.(*ast.SelectorExpr)
			if !ok || kind.Sel.Name != "MessageType" {
				return true
			}
			pair, ok := literal.Elts[0].(*ast.KeyValueExpr)
			require.True(t, ok, spec.Names[0].Name)
			wire, err := strconv.Unquote(pair.Value.(*ast.BasicLit).Value)
			require.NoError(t, err)
			names[spec.Names[0].Name] = wire
			return true
		})
	}
	return names
}

func TestNames(t *testing.T) {
	t.Parallel()
	types := declared(t)
	require.Len(t, types, len(contract.All(0).Types))
	for variable, wire := range types {
		require.Equal(t, goName(t, wire), variable)
	}
	for wire, body := range bodies {
		name, isBody := strings.CutSuffix(reflect.TypeOf(body).Name(), "Body")
		require.True(t, isBody, "%s: %T", wire, body)
		require.True(t, strings.HasPrefix(goName(t, wire), name), "%s: %T", wire, body)
	}
}
