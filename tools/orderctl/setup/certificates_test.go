package setup_test

import (
	"crypto/x509"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/tools/orderctl/setup"
)

// clients are the broker's users, with the user ids of their containers.
var clients = map[string]int{"orders": 10001, "billing": 10002, "notifier": 10003, "pricing-rpc": 10004, "operator": 0, "federation": 0}

func certified(t *testing.T, now time.Time) (dirs setup.Dirs, authority string) {
	t.Helper()
	dirs = newDirs(t)
	_, err := setup.Secrets(dirs)
	require.NoError(t, err)
	authority = filepath.Join(filepath.Dir(dirs.Services), "authority")
	made, err := setup.Certificates(dirs, authority, now)
	require.NoError(t, err)
	require.Equal(t, 2+len(clients), made)
	return dirs, authority
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	dirs, authority := certified(t, time.Now())
	first := files(t, dirs)
	again, err := setup.Certificates(dirs, authority, time.Now())
	require.NoError(t, err)
	require.Zero(t, again)
	require.Equal(t, first, files(t, dirs), "existing files are kept")

	want := []string{"authority/ca.pem", "authority/ca-key.pem", "rabbitmq/ca.pem", "rabbitmq/server.pem", "rabbitmq/server-key.pem"}
	for name := range clients {
		for _, file := range []string{"ca.pem", "client.pem", "client-key.pem"} {
			want = append(want, "services/"+name+"/"+file)
		}
	}
	var pems []string
	for name, content := range first {
		if filepath.Ext(name) != ".pem" {
			continue
		}
		pems = append(pems, name)
		mode, uid := os.FileMode(0o400), 0
		if strings.HasPrefix(name, "rabbitmq/") {
			mode = 0o444 // the server's user id depends on the image
		} else if service, ok := strings.CutPrefix(filepath.Dir(name), "services/"); ok {
			uid = clients[service]
		}
		info, err := os.Stat(filepath.Join(filepath.Dir(dirs.Services), name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
		if os.Geteuid() == 0 {
			require.EqualValues(t, uid, info.Sys().(*syscall.Stat_t).Uid, name)
		}
		require.Equal(t, name == "authority/ca-key.pem" || strings.HasSuffix(name, "-key.pem"), strings.Contains(content, "PRIVATE KEY"), name)
	}
	require.ElementsMatch(t, want, pems)
	info, err := os.Stat(authority)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		later   time.Duration
		change  func(dirs setup.Dirs, authority string) error
		changed []string // parts of files' names
	}{
		"in eleven months nothing":  {11*30*24*time.Hour + 24*time.Hour, nil, nil},
		"within the last month all": {340 * 24 * time.Hour, nil, []string{"server", "client"}},
		"with the authority all":    {9*365*24*time.Hour + 24*time.Hour, nil, []string{"authority/", "rabbitmq/", "services/"}},
		"one that is gone": {0, func(dirs setup.Dirs, _ string) error {
			return os.Remove(filepath.Join(dirs.Services, "billing", "client-key.pem"))
		}, []string{"services/billing/client"}},
		"one that is spoilt": {0, func(dirs setup.Dirs, _ string) error {
			return os.WriteFile(filepath.Join(dirs.RabbitMQ, "server.pem"), []byte("x"), 0o600)
		}, []string{"rabbitmq/server"}},
		"all of an authority that is gone": {0, func(_ setup.Dirs, authority string) error {
			return os.Remove(filepath.Join(authority, "ca-key.pem"))
		}, []string{"authority/", "rabbitmq/", "services/"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dirs, authority := certified(t, now)
			before := files(t, dirs)
			if c.change != nil {
				require.NoError(t, c.change(dirs, authority))
			}
			_, err := setup.Certificates(dirs, authority, now.Add(c.later))
			require.NoError(t, err)
			after := files(t, dirs)
			for file, content := range before {
				renewed := filepath.Ext(file) == ".pem" && slices.ContainsFunc(c.changed, func(part string) bool { return strings.Contains(file, part) })
				require.Equal(t, renewed, content != after[file], file)
			}
			require.Equal(t, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
		})
	}
}

// A broker and its clients accept the certificates, but not before or after their validity.
func TestCertificatesOnABroker(t *testing.T) {
	t.Parallel()
	dirs, authority := certified(t, time.Now())
	read := func(dir, name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return content
	}
	b := messagingtest.TLSBroker(t, read(authority, "ca.pem"), read(dirs.RabbitMQ, "server.pem"), read(dirs.RabbitMQ, "server-key.pem"))
	old, _ := certified(t, time.Now().AddDate(-2, 0, 0))
	connect := func(dirs setup.Dirs, trusted, client string) error {
		ours := filepath.Join(dirs.Services, client)
		config, err := messaging.LoadTLS(trusted, filepath.Join(ours, "client.pem"), filepath.Join(ours, "client-key.pem"))
		require.NoError(t, err)
		conn, err := messaging.Connect(t.Context(), messaging.Config{URLs: []string{b.URL}, User: b.User, Password: b.Password, TLS: config})
		if err == nil {
			require.NoError(t, conn.Close(t.Context()))
		}
		return err
	}
	trusted := filepath.Join(dirs.Services, "orders", "ca.pem")
	for client := range clients {
		require.NoError(t, connect(dirs, trusted, client), client)
	}
	require.ErrorContains(t, connect(old, trusted, "orders"), "certificate", "it has expired, and is of another authority")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, connect(dirs, filepath.Join(old.Services, "orders", "ca.pem"), "orders"), &unknown)
}
