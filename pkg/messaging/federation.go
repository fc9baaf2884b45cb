package messaging

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Upstream is another broker from which federated exchanges are copied: see
// [Exchange.Federated].
type Upstream struct {
	// Name is its name on this broker.
	Name string
	// URL is "amqp://host:5672/vhost" or "amqps://...". Without a path it means the virtual
	// host with the same name as here. The broker's own client uses it, and takes its
	// settings from the query ("?heartbeat=5", "?cacertfile=...").
	URL string
	// User and Password are for the login there. [FederationUser] has the rights that are
	// needed.
	User, Password string
}

// How long an upstream keeps messages that a downstream does not fetch. Then the queue of the
// link is deleted with its messages.
const linkExpires = 7 * 24 * time.Hour

// ApplyUpstreams sets from which brokers the federated exchanges are copied. The plugin
// rabbitmq_federation must be enabled, here and on the upstreams.
//
// A link copies the messages that are published after it has run for the first time. Copies
// keep exchange, key, properties and user id, so this broker must trust the upstream to have
// checked the user id. A message that came over one link is not copied over another one. A
// message is removed from the upstream when this broker has confirmed it; after a lost link
// some messages come twice.
//
// To run it again changes nothing, and links go on. When an upstream has changed its link is
// started anew, without losing messages. Upstreams that are not in the list are not changed.
func ApplyUpstreams(ctx context.Context, a Admin, upstreams []Upstream) error {
	a, err := a.complete()
	if err != nil {
		return err
	}
	uris := make([]string, len(upstreams)) // all are checked before anything is sent
	for i, u := range upstreams {
		if uris[i], err = u.uri(); err != nil {
			return err
		}
	}
	api := a.management()
	defer api.close()
	for i, u := range upstreams {
		if err := api.putParameter(ctx, "federation-upstream", u.Name, map[string]any{
			"uri":           uris[i],
			"trust-user-id": true,
			"ack-mode":      "on-confirm",
			"max-hops":      1,
			"queue-type":    string(Quorum),
			// By default a link that ends normally, for example because its broker is
			// stopped, deletes its queue with the messages in it.
			"resource-cleanup-mode": "never",
		}); err != nil {
			return fmt.Errorf("apply upstream %q: %w", u.Name, err)
		}
	}
	a.Logger.Info("upstreams applied", zap.String("vhost", a.VHost), zap.Int("upstreams", len(upstreams)))
	return nil
}

// uri gives the URL with user and password. Its errors do not have the URL, which may have a
// password.
func (u Upstream) uri() (string, error) {
	if err := checkPathName(u.Name); err != nil {
		return "", fmt.Errorf("messaging: upstream %.80q: Name: %w", u.Name, err)
	}
	uri, err := url.Parse(u.URL)
	if err != nil || uri.Host == "" || uri.Scheme != "amqp" && uri.Scheme != "amqps" || strings.ContainsAny(u.URL, "#") {
		return "", fmt.Errorf("messaging: upstream %q: URL: not an AMQP URL", u.Name)
	}
	if u.Name == "" || u.User == "" || u.Password == "" {
		return "", errors.New("messaging: upstream: Name, User and Password: must not be empty")
	}
	if err := checkCredentials(u.User, u.Password); err != nil {
		return "", fmt.Errorf("upstream %q: %w", u.Name, err)
	}
	uri.User = url.UserPassword(u.User, u.Password)
	// In milliseconds. With the default of a minute a link would still wait that long after
	// a network that drops packets works again.
	if !uri.Query().Has("connection_timeout") {
		uri.RawQuery = strings.TrimPrefix(uri.RawQuery+"&connection_timeout=10000", "&")
	}
	return uri.String(), nil
}

// FederationUser is a user with the rights that links to this broker need for these exchanges:
// to read them, and to declare queues and exchanges for the links.
func FederationUser(name string, exchanges ...string) User {
	var links, reads []string
	for _, x := range exchanges {
		links = append(links, regexp.QuoteMeta(linkPrefix(x))+".*")
		reads = append(reads, regexp.QuoteMeta(x))
	}
	own := strings.Join(links, "|")
	return User{
		Name:      name,
		Configure: "^(" + own + ")$",
		Write:     "^(" + own + ")$",
		Read:      "^(" + own + "|" + strings.Join(reads, "|") + ")$",
	}
}

// linkPrefix is the beginning of the names of what a link declares for an exchange: a queue,
// and an exchange between the two.
func linkPrefix(exchange string) string { return "federation: " + exchange + " -> " }

// linkPolicy is the policy of the queues with messages that a downstream has not fetched. Each
// loss of a link counts as an attempt for up to a thousand messages; with the broker's default
// limit of 20 they would be dropped some day.
func (x Exchange) linkPolicy() mgmtPolicy {
	return mgmtPolicy{
		Name: "federation:" + x.Name, Pattern: "^" + regexp.QuoteMeta(linkPrefix(x.Name)), ApplyTo: "quorum_queues", Priority: policyPriority,
		Definition: map[string]any{"delivery-limit": Unlimited, "expires": linkExpires.Milliseconds()},
	}
}

// ofLinks says whether a queue or exchange with this name belongs to a link for an exchange
// of t.
func (t Topology) ofLinks(name string) bool {
	return slices.ContainsFunc(t.Exchanges, func(x Exchange) bool {
		return x.Federated && strings.HasPrefix(name, linkPrefix(x.Name))
	})
}
