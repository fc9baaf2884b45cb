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

// Upstream is another broker, whose federated exchanges are copied from: see
// [Exchange.Federated].
type Upstream struct {
	// Name is what this broker calls it.
	Name string
	// URL is "amqp://host:5672/vhost" or "amqps://...", and without a path means the
	// virtual host of the same name. The broker's own client reads it, whose settings
	// are in the query ("?heartbeat=5", "?cacertfile=...").
	URL string
	// User and Password log in there. [FederationUser] says which rights that takes.
	User, Password string
}

// How long an upstream keeps what a downstream has not fetched. Then the queue of
// the link is removed, with what is in it.
const linkExpires = 7 * 24 * time.Hour

// ApplyUpstreams tells the broker where its federated exchanges are copied from.
// The plugin rabbitmq_federation must be enabled, here and on the upstreams.
//
// A link carries what is published from the moment on that it first runs. Copies keep
// exchange, key, properties and user id: the upstream is believed in who has
// published. What came over one link goes over no other. A message leaves the
// upstream when this broker has confirmed it; after a lost link some come twice.
//
// Running it again changes nothing, and links go on; one whose upstream has changed is
// made anew, and loses nothing. Upstreams that are not in the list are left alone.
func ApplyUpstreams(ctx context.Context, a Admin, upstreams []Upstream) error {
	a, err := a.complete()
	if err != nil {
		return err
	}
	uris := make([]string, len(upstreams)) // all, before anything is sent
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
			// By default a link that ends in good order, as it does when its broker
			// is stopped, removes its queue with all that waits in it.
			"resource-cleanup-mode": "never",
		}); err != nil {
			return fmt.Errorf("apply upstream %q: %w", u.Name, err)
		}
	}
	a.Logger.Info("upstreams applied", zap.String("vhost", a.VHost), zap.Int("upstreams", len(upstreams)))
	return nil
}

// uri never puts the URL into an error, since it may hold a password.
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
	// In milliseconds. The default of a minute is what a link would be behind a
	// network that drops packets, when that is over.
	if !uri.Query().Has("connection_timeout") {
		uri.RawQuery = strings.TrimPrefix(uri.RawQuery+"&connection_timeout=10000", "&")
	}
	return uri.String(), nil
}

// FederationUser is a user with the rights that links to the broker need, for
// these exchanges: to read them, and to have queues and exchanges of the links' own.
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

// linkPrefix begins the name of what links to an exchange have on its broker: a
// queue, and an exchange between the two.
func linkPrefix(exchange string) string { return "federation: " + exchange + " -> " }

// linkPolicy is that of the queues which hold what a downstream has not fetched.
// Each loss of a link counts as an attempt for up to a thousand messages, which the
// broker's default limit of 20 would in the end drop.
func (x Exchange) linkPolicy() mgmtPolicy {
	return mgmtPolicy{
		Name: "federation:" + x.Name, Pattern: "^" + regexp.QuoteMeta(linkPrefix(x.Name)), ApplyTo: "quorum_queues", Priority: policyPriority,
		Definition: map[string]any{"delivery-limit": Unlimited, "expires": linkExpires.Milliseconds()},
	}
}

// ofLinks says whether a name is that of a queue or exchange of a link to t's exchanges.
func (t Topology) ofLinks(name string) bool {
	return slices.ContainsFunc(t.Exchanges, func(x Exchange) bool {
		return x.Federated && strings.HasPrefix(name, linkPrefix(x.Name))
	})
}
