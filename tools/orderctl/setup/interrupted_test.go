package setup_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/tools/orderctl/setup"
)

// renewed are the files of a renewal with a new authority, in the order in which they are
// written.
var renewed = []string{
	"authority/ca.pem", "authority/ca-key.pem",
	"rabbitmq/ca.pem", "rabbitmq/server.pem", "rabbitmq/server-key.pem",
	"services/orders/ca.pem", "services/orders/client.pem", "services/orders/client-key.pem",
	"services/billing/ca.pem", "services/billing/client.pem", "services/billing/client-key.pem",
}

// The next run repairs an interrupted renewal, wherever it was interrupted: each file may be
// old or new, missing, empty or incomplete, and a temporary file may exist.
func TestCertificatesAfterARunThatWasCutOff(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old, _ := certified(t, now)
	before := files(t, old)
	_, err := setup.Certificates(old, filepath.Join(filepath.Dir(old.Services), "authority"), now.AddDate(9, 1, 0))
	require.NoError(t, err)
	after := files(t, old)
	now = now.AddDate(9, 1, 0)

	// Interrupted after each step.
	for n := range len(renewed) + 1 {
		state := maps.Clone(before)
		for _, file := range renewed[:n] {
			state[file] = after[file]
		}
		if n < len(renewed) {
			state[renewed[n]+".new"] = after[renewed[n]][:40]
		}
		t.Run(fmt.Sprintf("after step %d", n), func(t *testing.T) { t.Parallel(); requireRepair(t, state, now) })
	}
	// After a power failure, the disk may have any of the written files.
	for _, pair := range [][]string{renewed[:2], renewed[2:5], renewed[5:8]} {
		for subset := range 1 << len(pair) {
			state := maps.Clone(after)
			for bit, file := range pair {
				if subset>>bit&1 == 1 {
					state[file] = before[file]
				}
			}
			t.Run(fmt.Sprintf("%s old %b", filepath.Dir(pair[0]), subset), func(t *testing.T) { t.Parallel(); requireRepair(t, state, now) })
		}
	}
	for _, file := range renewed {
		for what, content := range map[string]string{"gone": "gone", "empty": "", "a piece": after[file][:40], "not for us": after["services/operator/client-key.pem"]} {
			state := maps.Clone(after)
			state[file] = content
			if what == "gone" {
				delete(state, file)
			}
			t.Run(file+" is "+what, func(t *testing.T) { t.Parallel(); requireRepair(t, state, now) })
		}
	}
}

// requireRepair writes files, runs Certificates, and checks every pair.
func requireRepair(t *testing.T, state map[string]string, now time.Time) {
	t.Helper()
	dirs := newDirs(t)
	root := filepath.Dir(dirs.Services)
	for file, content := range state {
		replace(t, filepath.Join(root, file), content)
	}
	_, err := setup.Certificates(dirs, filepath.Join(root, "authority"), now)
	require.NoError(t, err)
	got := files(t, dirs)
	for _, file := range slices.Sorted(maps.Keys(got)) {
		require.NotEqual(t, ".new", filepath.Ext(file))
		key, isKey := strings.CutSuffix(file, "-key.pem")
		if !isKey {
			continue
		}
		pair, err := tls.X509KeyPair([]byte(got[key+".pem"]), []byte(got[file]))
		require.NoError(t, err, file)
		require.Equal(t, got["authority/ca.pem"], got[filepath.Dir(file)+"/ca.pem"], file)
		trusted := x509.NewCertPool()
		require.True(t, trusted.AppendCertsFromPEM([]byte(got["authority/ca.pem"])))
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: trusted, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		require.NoError(t, err, file)
	}
	again, err := setup.Certificates(dirs, filepath.Join(root, "authority"), now)
	require.NoError(t, err)
	require.Zero(t, again)
}

// An empty file of a secret, left by a power failure, was never used, so it is replaced.
func TestSecretsThatAreEmpty(t *testing.T) {
	t.Parallel()
	dirs := newDirs(t)
	_, err := setup.Secrets(dirs)
	require.NoError(t, err)
	first := files(t, dirs)
	lost := filepath.Join(dirs.PostgreSQL, "password")
	replace(t, lost, "\n")
	made, err := setup.Secrets(dirs)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	second := files(t, dirs)
	require.Regexp(t, `^[0-9a-f]{48}$`, second["postgres/password"])
	first["postgres/password"] = second["postgres/password"]
	require.Equal(t, first, second, "the others are kept")
}
