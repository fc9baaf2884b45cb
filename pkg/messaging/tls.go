package messaging

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// LoadTLS makes the settings for amqps and https URLs from PEM files: authority
// holds the certificates of whoever signs the broker's, certificate and key are what
// this client shows of itself. An empty authority means the system's; a client
// without a certificate leaves both others empty.
//
// The client's files are read again for each connection, so a renewed certificate
// needs no restart; the authority's only once. TLS is 1.2 at least. Errors name the file.
func LoadTLS(authority, certificate, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if authority != "" {
		encoded, err := os.ReadFile(authority) //nolint:gosec // the operator's choice
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(encoded) {
			return nil, fmt.Errorf("read the authority's certificate: %s holds no certificate in PEM", authority)
		}
	}
	if certificate == "" && key == "" {
		return config, nil
	}
	if certificate == "" || key == "" {
		return nil, errors.New("a client's certificate and its key go together, and one of them is missing")
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate %s and key %s: %w", certificate, key, err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil { // now, and not at the first connection
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return config, nil
}
