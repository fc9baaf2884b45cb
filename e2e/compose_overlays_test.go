package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// `make up WITH=tls`: no port accepts a client without a certificate of this system.
func TestTheOverlayTLS(t *testing.T) {
	c, s := newComposed(t, "tls")
	t.Run("an order is paid", func(t *testing.T) {
		s.becomes(s.place("ada", contract.TierExpress, "tok_ok").ID, "paid")
	})
	t.Run("every service is healthy, and the set-up containers have succeeded", c.checkHealth)
	t.Run("no container has more rights than it needs", c.checkConfinement)
	secrets := c.secrets(t)
	t.Run("a client needs a certificate, and the password too", func(t *testing.T) {
		roots := x509.NewCertPool()
		require.True(t, roots.AppendCertsFromPEM(c.secretFile(t, "operator/ca.pem")))
		own, err := tls.X509KeyPair(c.secretFile(t, "operator/client.pem"), c.secretFile(t, "operator/client-key.pem"))
		require.NoError(t, err)
		address := c.Address("AMQPS_PORT")
		dial := func(password string) error {
			conn, err := amqp.DialTLS("amqps://"+contract.Operator+":"+password+"@"+address+"/",
				&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12})
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		require.NoError(t, dial(secrets["services/operator/amqp_password"]))
		require.ErrorIs(t, dial("guess"), amqp.ErrCredentials)

		stranger, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
		require.NoError(t, err) // in TLS 1.3 the server checks the certificate after the client's handshake
		defer func() { _ = stranger.Close() }()
		require.NoError(t, stranger.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = stranger.Read(make([]byte, 1))
		require.ErrorContains(t, err, "certificate required")
	})
	t.Run("no port accepts AMQP without TLS", func(t *testing.T) {
		_, err := net.DialTimeout("tcp", c.Address("AMQP_PORT"), 5*time.Second)
		require.Error(t, err)
		c.compose(t, `exec -T rabbitmq bash -c "! (</dev/tcp/127.0.0.1/5672) 2>/dev/null"`)
		_, err = amqp.Dial(fmt.Sprintf("amqp://%s:%s@%s/", contract.Operator, secrets["services/operator/amqp_password"], c.Address("AMQPS_PORT")))
		require.Error(t, err)
		connections := c.compose(t, "exec -T rabbitmq rabbitmqctl -q list_connections --no-table-headers user ssl peer_cert_subject")
		for _, user := range []string{contract.OrdersUser, contract.BillingUser, contract.NotifierUser, contract.PricingUser} {
			require.Contains(t, connections, user+"\ttrue\tCN="+user)
		}
		require.NotContains(t, connections, "\tfalse\t")
	})
	t.Run("no secret and no private key is where others can read it", func(t *testing.T) {
		c.checkPlaces(t, secrets)
		c.checkPlaces(t, c.privateKeys(t))
	})
}

// secretFile is a file of the volume with all secrets.
func (c *composed) secretFile(t *testing.T, name string) []byte {
	t.Helper()
	return []byte(c.script(t, `source scripts/lib.sh; docker run --rm --network none -v "$COMPOSE_PROJECT_NAME"_secrets:/s:ro --entrypoint /bin/cat "$(setting POSTGRES_IMAGE)" /s/`+name))
}

// privateKeys are the last lines of all keys, by file.
func (c *composed) privateKeys(t *testing.T) map[string]string {
	t.Helper()
	out := c.script(t, `source scripts/lib.sh; docker run --rm --network none \
		-v "$COMPOSE_PROJECT_NAME"_secrets:/s/services:ro -v "$COMPOSE_PROJECT_NAME"_rabbitmq-admin:/s/rabbitmq:ro -v "$COMPOSE_PROJECT_NAME"_authority:/s/authority:ro \
		--entrypoint /bin/sh "$(setting POSTGRES_IMAGE)" -c 'cd /s; grep -r -A 2 "BEGIN.*PRIVATE KEY"'`)
	found := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^(\S+\.pem)-([A-Za-z0-9+/=]{60,})$`).FindAllStringSubmatch(out, -1) {
		found[match[1]] = match[2] // the last line of the key: the first lines of all keys begin in the same way
	}
	require.GreaterOrEqual(t, len(found), 7, "of the authority, the broker and five accounts")
	return found
}

// `make up WITH=federation`: a customer of one region orders in the other.
func TestTheOverlayFederation(t *testing.T) {
	c, s := newComposed(t, "federation")
	for _, broker := range []string{"rabbitmq", "rabbitmq-us"} {
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			status := c.compose(t, "exec -T "+broker+" rabbitmqctl -q federation_status --formatter json")
			return strings.Contains(status, `"status":"running"`), status
		})
	}
	eu, us := s.orders[0].URL, "http://"+c.Address("US_ORDERS_PORT")
	order := func(at, customer, region string) string {
		s.orders[0].URL = at
		id := s.insist(t.Context(), customer, strings.Replace(orderBody(customer, contract.TierStandard, "tok_ok", "mug"), `"eu"`, fmt.Sprintf("%q", region), 1))
		s.becomes(id, "paid")
		return id
	}
	// requireMails waits until a customer has exactly these mails, by sender and subject.
	requireMails := func(customer string, want ...string) {
		s.eventuallySame(want, func() (list []string) {
			var answer struct {
				Mails []struct {
					From    string `json:"from"`
					Subject string `json:"subject"`
				} `json:"mails"`
			}
			s.getJSON("http://"+c.Address("SANDBOX_PORT")+"/v1/mails?to="+customer+"@example.com", &answer)
			for _, m := range answer.Mails {
				list = append(list, m.From+": "+m.Subject)
			}
			return list
		})
	}
	const fromEU, fromUS = "shop@eu.example.com: ", "shop@us.example.com: "
	first := order(eu, "ada", contract.RegionUS)
	toAda := []string{fromUS + "Order " + first + " is paid", fromEU + "Receipt for order " + first}
	requireMails("ada", toAda...)
	back := order(us, "bob", contract.RegionEU)
	requireMails("bob", fromEU+"Order "+back+" is paid", fromUS+"Receipt for order "+back)
	last := order(eu, "eve", contract.RegionUS) // placed later than any mail that could come twice
	requireMails("eve", fromUS+"Order "+last+" is paid", fromEU+"Receipt for order "+last)
	requireMails("ada", toAda...)

	status, _ := s.get("http://" + c.Address("US_PRICING_PORT") + "/v1/prices")
	require.Equal(t, http.StatusOK, status)
	t.Run("every service is healthy, and the set-up containers have succeeded", c.checkHealth)
	t.Run("no container has more rights than it needs", c.checkConfinement)
	secrets := c.secrets(t)
	t.Run("no secret is where others can read it", func(t *testing.T) { c.checkPlaces(t, secrets) })
}
