package messagingtest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// A TokenBroker is a broker that accepts tokens of OAuth 2 as passwords.
type TokenBroker struct {
	*BrokerInfo
	key *rsa.PrivateKey
}

// OAuthBroker starts a broker of its own with the plugin rabbitmq_auth_backend_oauth2,
// which accepts the tokens of [TokenBroker.Token].
func OAuthBroker(t testing.TB) *TokenBroker {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	const settings = `
auth_backends.1 = rabbit_auth_backend_internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = rabbitmq
auth_oauth2.default_key = test
auth_oauth2.signing_keys.test = /etc/rabbitmq/token.pem
auth_oauth2.algorithms.1 = RS256
`
	file := func(path, content string) testcontainers.ContainerFile {
		return testcontainers.ContainerFile{Reader: strings.NewReader(content), ContainerFilePath: "/etc/rabbitmq/" + path, FileMode: 0o644}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c, err := startBroker(ctx, testcontainers.WithFiles(
		file("enabled_plugins", "[rabbitmq_management,rabbitmq_auth_backend_oauth2]."),
		file("conf.d/20-oauth.conf", settings),
		file("token.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))))
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatalf("start a broker with OAuth 2: %v", err)
	}
	return &TokenBroker{own(t, c), key}
}

// Token makes a token of a user with all rights, which is valid until it expires.
func (b *TokenBroker) Token(user string, expires time.Time) (string, error) {
	part := func(v map[string]any) string {
		encoded, _ := json.Marshal(v) // strings and numbers
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	signed := part(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "test"}) + "." + part(map[string]any{
		"sub": user, "aud": "rabbitmq", "exp": expires.Unix(),
		"scope": "rabbitmq.configure:*/* rabbitmq.write:*/* rabbitmq.read:*/*",
	})
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, b.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
