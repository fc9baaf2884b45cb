package setup

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// File names of certificates and keys.
const (
	authorityFile = "ca.pem"
	authorityKey  = "ca-key.pem"
	serverFile    = "server.pem"
	serverKey     = "server-key.pem"
	clientFile    = "client.pem"
	clientKey     = "client-key.pem"
)

// How long certificates are valid, and how long before their end they are renewed.
const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	renewBefore     = 30 * 24 * time.Hour
)

// brokerNames are the host names of the broker, for one node or three.
var brokerNames = []string{"rabbitmq", "rabbitmq-2", "rabbitmq-3", "localhost", "127.0.0.1"}

// Certificates makes the certificates of the overlay tls: an authority, in a directory that no
// other container mounts, a certificate for the broker, and one for each of its users.
// Certificates of this authority that are valid for another month are kept. made is the number
// of new ones.
func Certificates(dirs Dirs, authorityDir string, now time.Time) (made int, err error) {
	if err := makeDir(authorityDir, 0o700); err != nil {
		return 0, fmt.Errorf("make the authority: %w", err)
	}
	a, err := loadAuthority(authorityDir, now)
	if err != nil {
		if a, err = newAuthority(authorityDir, now); err != nil {
			return 0, fmt.Errorf("make the authority: %w", err)
		}
		made++
	}
	issue := func(p paths, name string, names ...string) error {
		isNew, err := a.issue(p, now, name, names...)
		made += isNew
		if err != nil {
			return fmt.Errorf("make the certificate of %s: %w", name, err)
		}
		return nil
	}
	// As the broker's other secrets, they are protected by which containers mount the directory.
	err = issue(paths{dirs.RabbitMQ, serverFile, serverKey, 0o444, 0}, "rabbitmq", brokerNames...)
	for _, account := range accounts {
		if err == nil && slices.Contains(account.files, brokerPassword) {
			err = issue(paths{filepath.Join(dirs.Services, account.name), clientFile, clientKey, 0o400, account.uid}, account.name)
		}
	}
	return made, err
}

// authority is the certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	encoded     []byte
}

func loadAuthority(dir string, now time.Time) (*authority, error) {
	p := authorityPaths(dir)
	pair, err := p.load()
	if err != nil {
		return nil, err
	}
	if now.Add(certificateLife).After(pair.Leaf.NotAfter) {
		return nil, errors.New("the authority expires before a new certificate would")
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the authority's key cannot sign")
	}
	return &authority{pair.Leaf, key, encode(pair.Leaf)}, nil
}

func authorityPaths(dir string) paths { return paths{dir, authorityFile, authorityKey, 0o400, 0} }

func newAuthority(dir string, now time.Time) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Orderflow " + now.UTC().Format(time.DateTime)}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(authorityLife), KeyUsage: x509.KeyUsageCertSign,
	}
	key, encodedKey, err := newKey()
	if err != nil {
		return nil, err
	}
	encoded, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := authorityPaths(dir).write(encoded, encodedKey); err != nil {
		return nil, err
	}
	return loadAuthority(dir, now)
}

// issue writes a certificate, its key and the authority's certificate, unless they exist and
// are valid. With names it is a server certificate, without names a client certificate.
func (a *authority) issue(p paths, now time.Time, name string, names ...string) (int, error) {
	if a.isGood(p, now, names) {
		return 0, nil
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	key, encodedKey, err := newKey()
	if err != nil {
		return 0, err
	}
	encoded, err := sign(template, a.certificate, key.Public(), a.key)
	if err != nil {
		return 0, err
	}
	if err := p.writeFile(authorityFile, a.encoded); err != nil {
		return 0, err
	}
	return 1, p.write(encoded, encodedKey)
}

func (a *authority) isGood(p paths, now time.Time, names []string) bool {
	trusted, err := os.ReadFile(filepath.Join(p.dir, authorityFile))
	if err != nil || !bytes.Equal(trusted, a.encoded) {
		return false
	}
	pair, err := p.load()
	if err != nil || pair.Leaf.CheckSignatureFrom(a.certificate) != nil || now.Add(renewBefore).After(pair.Leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return pair.Leaf.VerifyHostname(n) != nil })
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), err
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (encoded []byte, err error) {
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	return encode(&x509.Certificate{Raw: der}), err
}

func encode(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

// paths are the paths of a certificate and its key, with their mode and owner.
type paths struct {
	dir, certificate, key string
	mode                  fs.FileMode
	uid                   int
}

// load reads a certificate and its key. It fails if they do not belong together, as after an
// interrupted run that wrote only one of them. Then both are made again.
func (p paths) load() (tls.Certificate, error) {
	return tls.LoadX509KeyPair(filepath.Join(p.dir, p.certificate), filepath.Join(p.dir, p.key))
}

func (p paths) write(certificate, key []byte) error {
	if err := p.writeFile(p.certificate, certificate); err != nil {
		return err
	}
	return p.writeFile(p.key, key)
}

func (p paths) writeFile(name string, content []byte) error {
	return writeWhole(filepath.Join(p.dir, name), p.mode, p.uid, content)
}
