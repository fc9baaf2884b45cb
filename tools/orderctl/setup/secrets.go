// Package setup makes what the system needs before its first start: secrets, and
// databases with their roles. Everything in it can be run again.
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

// BrokerAdmin is the broker's administrator. There is no guest.
const BrokerAdmin = "admin"

// Names of the files in a service's directory.
const (
	brokerPassword   = "amqp_password"
	databasePassword = "database_password"
	operatorToken    = "operator_token"

	// What a service and the sandbox both know.
	providerKey   = "provider_key"
	smtpPassword  = "smtp_password"
	webhookSecret = "webhook_secret"
)

// Dirs are the directories that secrets lie in: one per service below Services,
// and one each for the two servers, so that nobody mounts what is another's.
type Dirs struct {
	Services, RabbitMQ, PostgreSQL string
}

// account is somebody with secrets. The uid is the container's user, who alone
// may read them; 0 is for the one-shot containers.
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
	{contract.FederationUser, 0, []string{brokerPassword}}, // used where each region has a broker
	{"ledger", 0, []string{databasePassword}},
}

// Secrets makes the secrets that are not there yet, and says how many it made.
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
	// The servers run under users that differ from image to image; what is here is
	// guarded by who mounts the directory.
	for path, content := range map[string]func(secret string) string{
		filepath.Join(dirs.RabbitMQ, "10-admin.conf"): func(secret string) string {
			return "default_user = " + BrokerAdmin + "\ndefault_pass = " + secret + "\n"
		},
		filepath.Join(dirs.RabbitMQ, "erlang-cookie"): func(secret string) string { return secret }, // of a cluster, by which its nodes know each other
		filepath.Join(dirs.PostgreSQL, "password"):    func(secret string) string { return secret },
	} {
		if err := makeDir(filepath.Dir(path), 0o755); err != nil { // the servers' users must get in
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

// shared gives the content of a new file: what somebody else has under a name that is for
// a secret of two, and else the new secret.
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

// writeOnce writes a file with a new secret, unless there is one. An empty file is what
// a power failure left of it: nobody can have used that.
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

// writeWhole writes aside, to the disk, and renames: a file that is there is whole,
// after a power failure too. What a run that was cut off has left aside is removed.
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
		err = f.Chmod(mode) // whatever the umask
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

// makeDir makes a directory and those above it, and writes to the disk that it is there.
func makeDir(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir writes the names in a directory to the disk.
func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// give makes the user the owner. Only root can; what anybody else makes, for
// services run by hand, stays their own.
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
