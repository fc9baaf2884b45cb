package setup_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/tools/orderctl/setup"
)

func newDirs(t *testing.T) setup.Dirs {
	t.Helper()
	dir := t.TempDir()
	return setup.Dirs{
		Services:   filepath.Join(dir, "services"),
		RabbitMQ:   filepath.Join(dir, "rabbitmq"),
		PostgreSQL: filepath.Join(dir, "postgres"),
	}
}

// files returns the content of every file in the directories.
func files(t *testing.T, dirs setup.Dirs) map[string]string {
	t.Helper()
	found := map[string]string{}
	root := filepath.Dir(dirs.Services)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		found[name] = string(content)
		return err
	}))
	return found
}

// everything returns all files and directories, with their modes and owners.
var everything = map[string]struct {
	mode fs.FileMode
	uid  int
}{
	"services/orders":                        {0o700, 10001},
	"services/orders/amqp_password":          {0o400, 10001},
	"services/orders/database_password":      {0o400, 10001},
	"services/billing":                       {0o700, 10002},
	"services/billing/amqp_password":         {0o400, 10002},
	"services/billing/database_password":     {0o400, 10002},
	"services/billing/provider_key":          {0o400, 10002},
	"services/notifier":                      {0o700, 10003},
	"services/notifier/amqp_password":        {0o400, 10003},
	"services/notifier/database_password":    {0o400, 10003},
	"services/notifier/smtp_password":        {0o400, 10003},
	"services/notifier/webhook_secret":       {0o400, 10003},
	"services/pricing-rpc":                   {0o700, 10004},
	"services/pricing-rpc/amqp_password":     {0o400, 10004},
	"services/pricing-rpc/database_password": {0o400, 10004},
	"services/pricing-rpc/operator_token":    {0o400, 10004},
	"services/sandbox":                       {0o700, 10005},
	"services/sandbox/database_password":     {0o400, 10005},
	"services/sandbox/provider_key":          {0o400, 10005},
	"services/sandbox/smtp_password":         {0o400, 10005},
	"services/sandbox/webhook_secret":        {0o400, 10005},
	"services/operator":                      {0o700, 0},
	"services/operator/amqp_password":        {0o400, 0},
	"services/federation":                    {0o700, 0},
	"services/federation/amqp_password":      {0o400, 0},
	"services/ledger":                        {0o700, 0},
	"services/ledger/database_password":      {0o400, 0},
	"rabbitmq/10-admin.conf":                 {0o444, 0},
	"rabbitmq/erlang-cookie":                 {0o444, 0},
	"postgres/password":                      {0o444, 0},
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	dirs := newDirs(t)
	made, err := setup.Secrets(dirs)
	require.NoError(t, err)
	first := files(t, dirs)
	require.Len(t, first, made)

	count := 0
	for name, want := range everything {
		info, err := os.Stat(filepath.Join(filepath.Dir(dirs.Services), name))
		require.NoError(t, err)
		require.Equal(t, want.mode, info.Mode().Perm(), name)
		if os.Geteuid() != 0 {
			want.uid = os.Geteuid() // only root can change the owner
		}
		require.EqualValues(t, want.uid, info.Sys().(*syscall.Stat_t).Uid, name)
		if !info.IsDir() {
			count++
		}
	}
	require.Equal(t, count, made, "no other secrets")

	distinct := map[string]bool{}
	for name, content := range first {
		if name != "rabbitmq/10-admin.conf" {
			require.Regexp(t, `^[0-9a-f]{48}$`, content, name)
		}
		distinct[content] = true
	}
	require.Len(t, distinct, made-len(shared), "all secrets differ, except the shared ones")
	for service, name := range shared {
		require.Equal(t, first[service], first["services/sandbox/"+name], service)
	}

	made, err = setup.Secrets(dirs)
	require.NoError(t, err)
	require.Zero(t, made)
	require.Equal(t, first, files(t, dirs))
}

// shared are the secrets that the sandbox has too.
var shared = map[string]string{
	"services/billing/provider_key":    "provider_key",
	"services/notifier/smtp_password":  "smtp_password",
	"services/notifier/webhook_secret": "webhook_secret",
}

// If one of two copies of a shared secret is lost, it is made again from the other one.
func TestSharedSecretsStayEqual(t *testing.T) {
	t.Parallel()
	dirs := newDirs(t)
	_, err := setup.Secrets(dirs)
	require.NoError(t, err)
	all := files(t, dirs)
	root := filepath.Dir(dirs.Services)
	for service, name := range shared {
		for _, lost := range []string{service, "services/sandbox/" + name} {
			require.NoError(t, os.Remove(filepath.Join(root, lost)))
			made, err := setup.Secrets(dirs)
			require.NoError(t, err)
			require.Equal(t, 1, made)
			require.Equal(t, all, files(t, dirs))
		}
		// If both are lost, both get the same new one.
		require.NoError(t, os.Remove(filepath.Join(root, service)))
		require.NoError(t, os.Remove(filepath.Join(root, "services/sandbox/"+name)))
		_, err := setup.Secrets(dirs)
		require.NoError(t, err)
		now := files(t, dirs)
		require.NotEqual(t, all[service], now[service])
		require.Equal(t, now[service], now["services/sandbox/"+name])
		all = now
	}
}

func TestSecretsAfterARunThatWasCutOff(t *testing.T) {
	t.Parallel()
	dirs := newDirs(t)
	all, err := setup.Secrets(dirs)
	require.NoError(t, err)
	lost := filepath.Join(dirs.Services, contract.OrdersUser, "amqp_password")
	require.NoError(t, os.Rename(lost, lost+".new"))
	made, err := setup.Secrets(dirs)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	require.Len(t, files(t, dirs), all, "no temporary file is left")
}

func TestReadPasswords(t *testing.T) {
	t.Parallel()
	dirs := newDirs(t)
	_, err := dirs.BrokerPassword(contract.OrdersUser)
	require.ErrorContains(t, err, "orderctl setup secrets")
	_, err = dirs.AdminPassword()
	require.ErrorIs(t, err, fs.ErrNotExist)

	_, err = setup.Secrets(dirs)
	require.NoError(t, err)
	found := files(t, dirs)
	got, err := dirs.BrokerPassword(contract.OrdersUser)
	require.NoError(t, err)
	require.Equal(t, found["services/orders/amqp_password"], got)
	admin, err := dirs.AdminPassword()
	require.NoError(t, err)
	require.Equal(t, "default_user = "+setup.BrokerAdmin+"\ndefault_pass = "+admin+"\n", found["rabbitmq/10-admin.conf"])
	require.Len(t, strings.TrimSpace(admin), 48)

	other := setup.Dirs{RabbitMQ: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(other.RabbitMQ, "10-admin.conf"), []byte("default_user = admin\n"), 0o600))
	_, err = other.AdminPassword()
	require.ErrorContains(t, err, "no default_pass")
}
