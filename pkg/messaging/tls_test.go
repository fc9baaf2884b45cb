package messaging_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign makes a certificate, for a server or a client, and its key.
func (a *authority) sign(t *testing.T, name string, until time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func (a *authority) client(t *testing.T, until time.Time) []tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(a.sign(t, "client", until))
	require.NoError(t, err)
	return []tls.Certificate{certificate}
}

// forced sends a certificate that the broker does not ask for. Given in
// Certificates, crypto/tls would keep it back, because the broker names the
// authorities that it trusts.
func forced(certificates []tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificates[0], nil }
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func TestTLSWithClientCertificates(t *testing.T) {
	t.Parallel()
	ours, foreign := newAuthority(t, "ours"), newAuthority(t, "foreign")
	hour := time.Now().Add(time.Hour)
	// For localhost only: by its address the broker has the wrong name.
	certificate, key := ours.sign(t, "localhost", hour)
	b := messagingtest.TLSBroker(t, ours.pem, certificate, key)
	wrongName := b.URL
	rightName := strings.Replace(b.URL, "127.0.0.1", "localhost", 1)
	const dead = "amqps://127.0.0.1:1/"
	trusting := func() *tls.Config { return &tls.Config{RootCAs: ours.pool(), Certificates: ours.client(t, hour)} }
	connect := func(ctx context.Context, c *tls.Config, urls ...string) (*messaging.Conn, error) {
		return messaging.Connect(ctx, messaging.Config{URLs: urls, User: b.User, Password: b.Password, TLS: c})
	}

	t.Run("both trust each other", func(t *testing.T) {
		t.Parallel()
		conn, err := connect(within(t, 15*time.Second), trusting(), rightName)
		require.NoError(t, err)
		p := publisher(t, conn)
		require.NoError(t, p.Publish(within(t, 10*time.Second), messaging.Route{Exchange: "amq.fanout"}, message(t, "x"), messaging.AllowUnroutable()))
		large := message(t, string(make([]byte, 1<<20)))
		require.NoError(t, p.Publish(within(t, 10*time.Second), messaging.Route{Exchange: "amq.fanout"}, large, messaging.AllowUnroutable()))
		require.NoError(t, conn.Close(within(t, 10*time.Second)))
	})
	for name, c := range map[string]struct {
		change func(*tls.Config)
		reason string
	}{
		"no client certificate":             {func(c *tls.Config) { c.Certificates = nil }, "certificate required"},
		"a client of another authority":     {func(c *tls.Config) { c.GetClientCertificate = forced(foreign.client(t, hour)) }, "unknown certificate authority"},
		"a client whose time is over":       {func(c *tls.Config) { c.Certificates = ours.client(t, time.Now().Add(-time.Minute)) }, "expired certificate"},
		"a server of an unknown authority":  {func(c *tls.Config) { c.RootCAs = foreign.pool() }, "unknown authority"},
		"a server of another name":          {func(c *tls.Config) { c.ServerName = "elsewhere" }, "not elsewhere"},
		"a version of TLS that is too old":  {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "remote error: tls"},
		"a server certificate that is over": {func(c *tls.Config) { c.Time = func() time.Time { return hour.Add(time.Minute) } }, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := trusting()
			c.change(config)
			_, err := connect(within(t, 15*time.Second), config, rightName)
			require.ErrorContains(t, err, c.reason)
			require.NotErrorIs(t, err, context.DeadlineExceeded, "waiting will not change it")
		})
	}
	t.Run("a server whose address is not in its certificate", func(t *testing.T) {
		t.Parallel()
		_, err := connect(within(t, 15*time.Second), trusting(), wrongName, wrongName)
		require.ErrorContains(t, err, "127.0.0.1 because it doesn't contain any IP SANs")
		require.NotErrorIs(t, err, context.DeadlineExceeded, "no node can be trusted")
	})
	t.Run("the certificate logs in", func(t *testing.T) {
		t.Parallel()
		loginByCertificate(t, b, rightName, trusting)
	})
	// A certificate is one node's, not the cluster's. The order of the nodes is
	// drawn at random, so once is not enough.
	t.Run("one node of several with a bad certificate is passed over", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			conn, err := connect(within(t, 15*time.Second), trusting(), wrongName, rightName)
			require.NoError(t, err)
			require.NoError(t, conn.Close(within(t, 10*time.Second)))
		}
	})
	t.Run("a node that is away may have a good certificate", func(t *testing.T) {
		t.Parallel()
		_, err := connect(within(t, 3*time.Second), trusting(), wrongName, dead)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "IP SANs")
		require.ErrorContains(t, err, "connection refused")
	})
	// One attempt in 27 sees the end of the connection before the alert (36 of 974).
	t.Run("the reason does not depend on chance", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			config := trusting()
			config.Certificates = nil
			_, err := connect(within(t, 15*time.Second), config, rightName)
			require.ErrorContains(t, err, "certificate required")
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

// Settings that only a connected broker can confirm.
func TestConnectionParameters(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	config := b.Config()
	// The first host does not answer, the URL's credentials are not the ones that count.
	config.URLs = []string{"amqp://127.0.0.1:1/" + b.VHost, "amqp://nobody:wrong@" + b.URL[len("amqp://"+b.User+":"+b.Password+"@"):]}
	config.User, config.Password = b.User, b.Password
	config.Name = "named by a test"
	config.Heartbeat = 7 * time.Second
	conn := b.Connect(t, config)
	_, err := conn.Listen(messaging.Queue{Type: messaging.Classic, Exclusive: true}, nil, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		var connections []struct {
			VHost    string `json:"vhost"`
			User     string `json:"user"`
			Timeout  int    `json:"timeout"`
			Supplied string `json:"user_provided_name"`
		}
		b.Management(t, "GET", "/api/vhosts/"+b.VHost+"/connections", nil, &connections)
		names := map[string]bool{}
		for _, c := range connections {
			if c.VHost == b.VHost && c.User == b.User && c.Timeout == 7 {
				names[c.Supplied] = true
			}
		}
		return names["named by a test/publish"] && names["named by a test/listen"], "not shown yet"
	})
}
