package e2e_test

import (
	"go/version"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every image has an exact version. With a shorter version, a local image may differ from the
// one in a registry, and be too old for go.work. Names that are repeated, for runs without the
// file, are the same.
func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		content, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(file)))
		require.NoError(t, err)
		return string(content)
	}
	pins := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Z_]+_IMAGE)=(.*)$`).FindAllStringSubmatch(read("deploy/compose/.env"), -1) {
		pins[m[1]] = m[2]
	}
	for name, form := range map[string]string{
		"RABBITMQ_IMAGE": `^rabbitmq:4\.\d+\.\d+-management$`, "POSTGRES_IMAGE": `^postgres:18\.\d+$`, "GO_IMAGE": `^golang:1\.\d+\.\d+$`,
	} {
		require.Regexp(t, form, pins[name])
	}
	require.Len(t, pins, 3)
	require.Contains(t, read("pkg/messaging/messagingtest/broker.go"), `"`+pins["RABBITMQ_IMAGE"]+`"`)
	require.Contains(t, read("pkg/messaging/messagingtest/database.go"), `"`+pins["POSTGRES_IMAGE"]+`"`)
	require.Contains(t, read("deploy/compose/images/Dockerfile"), "ARG GO_IMAGE="+pins["GO_IMAGE"]+"\n")
	asked := regexp.MustCompile(`(?m)^go (.*)$`).FindStringSubmatch(read("go.work"))
	require.NotNil(t, asked)
	image := strings.TrimPrefix(pins["GO_IMAGE"], "golang:")
	require.GreaterOrEqual(t, version.Compare("go"+image, "go"+asked[1]), 0, "Go %s cannot build what asks for %s", image, asked[1])
}
