package messaging_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

func TestLoadTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAuthority(t, "ours")
	certificate, key := a.sign(t, "client", time.Now().Add(time.Hour))
	ca, cert, private := write(t, dir, "ca.pem", a.pem), write(t, dir, "client.pem", certificate), write(t, dir, "client-key.pem", key)
	text, away := write(t, dir, "text.pem", []byte("x")), filepath.Join(dir, "away.pem")

	for name, c := range map[string]struct{ authority, certificate, key, want string }{
		"nothing":                  {"", "", "", ""},
		"an authority":             {ca, "", "", ""},
		"all":                      {ca, cert, private, ""},
		"no authority's file":      {away, "", "", "away.pem"},
		"an authority of text":     {text, "", "", "text.pem"},
		"no key":                   {ca, cert, "", "one of them is missing"},
		"no certificate":           {ca, "", private, "one of them is missing"},
		"a certificate's file":     {ca, away, private, "away.pem"},
		"a certificate of text":    {ca, text, private, "text.pem"},
		"a key that does not fit":  {ca, cert, ca, "client.pem"},
		"a key, and no such file":  {ca, cert, away, "away.pem"},
		"somebody else's key file": {ca, ca, private, "ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := messaging.LoadTLS(c.authority, c.certificate, c.key)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.authority != "", config.RootCAs != nil)
			require.Equal(t, c.certificate != "", config.GetClientCertificate != nil)
		})
	}
}

func TestARenewedCertificateIsShownNextTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAuthority(t, "ours")
	renew := func() (certificate, key string) {
		c, k := a.sign(t, "client", time.Now().Add(time.Hour))
		return write(t, dir, "client.pem", c), write(t, dir, "client-key.pem", k)
	}
	cert, private := renew()
	config, err := messaging.LoadTLS("", cert, private)
	require.NoError(t, err)
	first, err := config.GetClientCertificate(nil)
	require.NoError(t, err)
	renew()
	second, err := config.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NotEqual(t, first.Certificate, second.Certificate)
	require.NoError(t, os.Remove(cert))
	_, err = config.GetClientCertificate(nil)
	require.ErrorContains(t, err, "client.pem")
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}
