// Package setup makes what the system needs before its first start: secrets, certificates, and
// databases with their roles. All its functions can be called again.
package setup

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"example.com/orderflow/contract"
)

// BrokerAdmin is the broker's administrator. The user guest does not exist.
const BrokerAdmin = "admin"

// Names of the files in a service's directory.
const (
	brokerPassword   = "amqp_password"
	databasePassword = "database_password"
	operatorToken    = "operator_token"

	// Secrets that a service and the sandbox share.
	providerKey   = "provider_key"
	smtpPassword  = "smtp_password"
	webhookSecret = "webhook_secret"
)

// Dirs are the directories of secrets: Services has one directory for each service, and each of
// the two servers has its own. So each container can mount its own secrets only.
type Dirs struct {
	Services, RabbitMQ, PostgreSQL string
}

// account is a service or another user with secrets. uid is the user of its container, the only
// one that may read the files; 0 is for the containers that set the system up.
type account struct {
	name  string
	uid   int
	files []string
}

var accounts = []account{
	{contract.OrdersUser, 10001, []string{brokerPassword, databasePassword}},
	{contract.BillingUser, 10002, []string{brokerPassword, databasePassword, providerKey}},
	{contract.NotifierUser, 10003, []string{brokerPassword, databasePassword, smtpPassword, webhookSecret}},
	{contract.PricingUser, 10004, []string{brokerPassword, databasePassword, operatorToken}},
	{"sandbox", 10005, []string{databasePassword, providerKey, smtpPassword, webhookSecret}},
	{contract.Operator, 0, []string{brokerPassword}},
	{contract.FederationUser, 0, []string{brokerPassword}}, // used only if each region has a broker
	{"ledger", 0, []string{databasePassword}},
}

// Secrets makes the missing secrets, and returns how many it made.
func Secrets(dirs Dirs) (made int, err error) {
	for _, a := range accounts {
		dir := filepath.Join(dirs.Services, a.name)
		if err := makeDir(dir, 0o700); err != nil {
			return made, fmt.Errorf("make secrets of %s: %w", a.name, err)
		}
		for _, name := range a.files {
			isNew, err := writeOnce(filepath.Join(dir, name), 0o400, a.uid, dirs.shared(name))
			if err != nil {
				return made, fmt.Errorf("make secrets of %s: %w", a.name, err)
			}
			made += isNew
		}
		if err := give(dir, a.uid); err != nil {
			return made, fmt.Errorf("make secrets of %s: %w", a.name, err)
		}
	}
	// The user ids of the servers depend on their images, so these files are readable for all.
	// They are protected by which containers mount the directory.
	for path, content := range map[string]func(secret string) string{
		filepath.Join(dirs.RabbitMQ, "10-admin.conf"): func(secret string) string {
			return "default_user = " + BrokerAdmin + "\ndefault_pass = " + secret + "\n"
		},
		filepath.Join(dirs.RabbitMQ, "erlang-cookie"): func(secret string) string { return secret }, // the common secret of the nodes of a cluster
		filepath.Join(dirs.PostgreSQL, "password"):    func(secret string) string { return secret },
	} {
		if err := makeDir(filepath.Dir(path), 0o755); err != nil { // the servers' users must be able to read it
			return made, fmt.Errorf("make secrets of the servers: %w", err)
		}
		isNew, err := writeOnce(path, 0o444, 0, content)
		if err != nil {
			return made, fmt.Errorf("make secrets of the servers: %w", err)
		}
		made += isNew
	}
	return made, nil
}

// shared returns a function that gives the content of a new file. For a name of a shared
// secret, that is the secret that the other account already has; otherwise it is the new one.
func (d Dirs) shared(name string) func(secret string) string {
	return func(secret string) string {
		if name != providerKey && name != smtpPassword && name != webhookSecret {
			return secret
		}
		for _, a := range accounts {
			if known, err := readSecret(filepath.Join(d.Services, a.name, name)); err == nil && known != "" {
				return known
			}
		}
		return secret
	}
}

// writeOnce writes a file with a new secret, unless the file exists. An empty file was left by a
// power failure and cannot have been used, so it is replaced.
func writeOnce(path string, mode fs.FileMode, uid int, content func(secret string) string) (int, error) {
	there, err := os.ReadFile(path) //nolint:gosec // the directory is the operator's choice
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if len(bytes.TrimSpace(there)) > 0 {
		return 0, nil
	}
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return 0, err
	}
	return 1, writeWhole(path, mode, uid, []byte(content(hex.EncodeToString(random))))
}

// writeWhole writes a temporary file, syncs it to the disk, and renames it. So a file that
// exists is complete, also after a power failure. A temporary file of an interrupted run is
// removed first.
func writeWhole(path string, mode fs.FileMode, uid int, content []byte) error {
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode) // independent of the umask
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := give(aside, uid); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a directory and its parents, and syncs its parent to the disk.
func makeDir(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir syncs the entries of a directory to the disk.
func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// give makes the user the owner. Only root can do that; for another user, who runs services by
// hand, it does nothing.
func give(path string, uid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, uid, uid)
}

// BrokerPassword reads the password of a broker user.
func (d Dirs) BrokerPassword(user string) (string, error) {
	return readSecret(filepath.Join(d.Services, user, brokerPassword))
}

// AdminPassword reads the password of the broker's administrator.
func (d Dirs) AdminPassword() (string, error) {
	config, err := readSecret(filepath.Join(d.RabbitMQ, "10-admin.conf"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(config) {
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "default_pass" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no default_pass in %s", filepath.Join(d.RabbitMQ, "10-admin.conf"))
}

func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return "", fmt.Errorf("read a secret (was `orderctl setup secrets` run?): %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}
