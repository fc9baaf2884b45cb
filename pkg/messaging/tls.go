package messaging

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// LoadTLS makes the settings for amqps and https URLs from PEM files. The file authority has
// the certificates of the authorities that sign the broker's certificate; empty means those
// of the system. The files certificate and key are those of this client; both are empty for
// a client without a certificate.
//
// The client's files are read again for each connection, so a renewed certificate needs no
// restart. The authority's file is read once. The minimum is TLS 1.2. Errors name the file.
func LoadTLS(authority, certificate, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if authority != "" {
		encoded, err := os.ReadFile(authority) //nolint:gosec // the operator's choice
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(encoded) {
			return nil, fmt.Errorf("read the authority's certificate: %s has no certificate in PEM", authority)
		}
	}
	if certificate == "" && key == "" {
		return config, nil
	}
	if certificate == "" || key == "" {
		return nil, errors.New("a client needs both a certificate and its key, and one of them is missing")
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate %s and key %s: %w", certificate, key, err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil { // so that a mistake is found now, and not when connecting
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return config, nil
}
