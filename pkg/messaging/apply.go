package messaging

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// policyPriority puts the policies that Apply writes above catch-all ones, which
// have priority 0 unless somebody says otherwise. Only one user policy is in
// effect on a queue at a time: the one with the highest priority.
const policyPriority = 10

// Apply makes the broker have the topology: exchanges, policies, queues, bindings.
// It validates first and sends nothing when that fails. It waits for the broker
// until ctx is done, so give ctx a deadline.
//
// Applying again changes nothing, and a changed tunable changes one policy: both
// are safe while the system runs. A queue's policy is written before the queue is
// declared, and a dead-letter queue before the queue that uses it, so that no
// queue is ever without its settings.
//
// Apply never deletes an exchange, a queue or a binding, since messages may depend
// on it: [Verify] reports those that the topology does not have. What differs in
// something that can never change (a queue's type, an exchange's kind) is an error
// of the broker, 406 PRECONDITION_FAILED, that names the argument.
//
// Users are not touched: see [ApplyUsers].
func Apply(ctx context.Context, a Admin, t Topology) error {
	if err := t.Validate(); err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	a, err := a.complete()
	if err != nil {
		return err
	}
	config := Config{URLs: []string{a.AMQPURL}, User: a.User, Password: a.Password, Name: "topology", TLS: a.TLS, Logger: a.Logger}
	l, err := newLink(ctx, config.withDefaults(), "apply")
	if err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	defer l.close(ctx)
	api := a.management()
	defer api.close()
	ep, err := l.await(ctx)
	if err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	ch, err := ep.channel()
	if err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	defer ep.closeChannel(ch)
	run := applyRun{api: api, ch: ch, guard: ep.guard}
	if err := run.apply(ctx, t); err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	a.Logger.Info("topology applied", zap.String("vhost", a.VHost), zap.Int("exchanges", len(t.Exchanges)),
		zap.Int("queues", len(t.Queues)), zap.Int("bindings", len(t.Bindings)))
	return nil
}

// ApplyUsers creates the users, or sets their passwords and tags, and gives them
// their rights in the virtual host of a. password is asked once for each. Users
// that are not in the list are left alone.
//
// Running it again is safe: open connections stay, and changed rights are in
// effect on new channels at once.
func ApplyUsers(ctx context.Context, a Admin, users []User, password func(user string) (string, error)) error {
	a, err := a.complete()
	if err != nil {
		return err
	}
	api := a.management()
	defer api.close()
	for _, u := range users {
		secret, err := password(u.Name)
		if err != nil {
			return fmt.Errorf("apply user %q: password: %w", u.Name, err)
		}
		if secret == "" {
			return fmt.Errorf("apply user %q: password: must not be empty", u.Name)
		}
		if err := api.putUser(ctx, u, secret); err != nil {
			return fmt.Errorf("apply user %q: %w", u.Name, err)
		}
		if err := api.putPermission(ctx, u); err != nil {
			return fmt.Errorf("apply user %q: %w", u.Name, err)
		}
	}
	a.Logger.Info("users applied", zap.String("vhost", a.VHost), zap.Int("users", len(users)))
	return nil
}

// applyRun is one run of Apply over one channel.
type applyRun struct {
	api   *mgmtClient
	ch    *amqp.Channel
	guard func(func() error) error
	// existing are the names of the policies that were there before.
	existing []string
}

func (r *applyRun) apply(ctx context.Context, t Topology) error {
	policies, err := r.api.policies(ctx)
	if err != nil {
		return err
	}
	for _, p := range policies {
		r.existing = append(r.existing, p.Name)
	}
	for _, x := range t.Exchanges {
		if err := r.exchange(ctx, x); err != nil {
			return fmt.Errorf("exchange %q: %w", x.Name, err)
		}
	}
	for _, b := range t.Bindings {
		if b.ToExchange {
			if err := r.bind(ctx, b); err != nil {
				return err
			}
		}
	}
	for _, q := range deadLettersFirst(t.Queues) {
		if err := r.queue(ctx, q); err != nil {
			return fmt.Errorf("queue %q: %w", q.Name, err)
		}
		for _, b := range t.Bindings {
			if !b.ToExchange && b.Destination == q.Name {
				if err := r.bind(ctx, b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *applyRun) exchange(ctx context.Context, x Exchange) error {
	if err := r.policy(ctx, x.mgmtPolicy()); err != nil {
		return err
	}
	if x.Federated {
		if err := r.policy(ctx, x.linkPolicy()); err != nil {
			return err
		}
	}
	return r.call(ctx, func() error {
		return r.ch.ExchangeDeclare(x.Name, string(x.Kind), true, x.AutoDelete, x.Internal, false, nil)
	})
}

func (r *applyRun) queue(ctx context.Context, q Queue) error {
	if err := r.policy(ctx, q.mgmtPolicy()); err != nil {
		return err
	}
	return r.call(ctx, func() error {
		_, err := r.ch.QueueDeclare(q.Name, true, q.AutoDelete, false, false, q.arguments())
		return err
	})
}

func (r *applyRun) bind(ctx context.Context, b Binding) error {
	err := r.call(ctx, func() error {
		if b.ToExchange {
			return r.ch.ExchangeBind(b.Destination, b.Key, b.Source, false, amqp.Table(b.Match))
		}
		return r.ch.QueueBind(b.Destination, b.Key, b.Source, false, amqp.Table(b.Match))
	})
	if err != nil {
		return fmt.Errorf("binding %s: %w", bindingName(b), err)
	}
	return nil
}

// call runs a synchronous AMQP method in bounded time.
func (r *applyRun) call(ctx context.Context, method func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.guard(method)
}

// policy writes a policy. One that has nothing to say is refused by the broker;
// then an earlier one of that name goes.
func (r *applyRun) policy(ctx context.Context, p mgmtPolicy) error {
	switch {
	case len(p.Definition) > 0:
		return r.api.putPolicy(ctx, p)
	case slices.Contains(r.existing, p.Name):
		return r.api.deletePolicy(ctx, p.Name)
	default:
		return nil
	}
}

// deadLettersFirst puts queues that dead-letter nothing before those that do, and
// keeps the order otherwise.
func deadLettersFirst(queues []Queue) []Queue {
	rank := func(q Queue) int {
		if q.DeadLetter == nil {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(queues), func(a, b Queue) int { return cmp.Compare(rank(a), rank(b)) })
}

// mgmtPolicy is the policy of an exchange. Its name has a prefix, because a queue
// may have the exchange's name and policies of all kinds share one set of names.
func (x Exchange) mgmtPolicy() mgmtPolicy {
	p := mgmtPolicy{Name: "exchange:" + x.Name, Pattern: exactly(x.Name), ApplyTo: "exchanges", Priority: policyPriority, Definition: map[string]any{}}
	if x.Alternate != "" {
		p.Definition["alternate-exchange"] = x.Alternate
	}
	if x.Federated {
		p.Definition["federation-upstream-set"] = "all"
	}
	return p
}

// mgmtPolicy is the policy of a queue, and has its name.
func (q Queue) mgmtPolicy() mgmtPolicy {
	applyTo := map[QueueType]string{Quorum: "quorum_queues", Classic: "classic_queues", Stream: "streams"}
	return mgmtPolicy{Name: q.Name, Pattern: exactly(q.Name), ApplyTo: applyTo[q.Type], Priority: policyPriority, Definition: q.policy()}
}

func exactly(name string) string { return "^" + regexp.QuoteMeta(name) + "$" }

// policy is everything about a durable queue that may change while it is in use,
// under the broker's names; times in milliseconds, a stream's age in seconds.
func (q Queue) policy() map[string]any {
	p := map[string]any{}
	set := func(key string, value any, given bool) {
		if given {
			p[key] = value
		}
	}
	set("max-length", q.MaxLength, q.MaxLength > 0)
	set("max-length-bytes", q.MaxLengthBytes, q.MaxLengthBytes > 0)
	set("overflow", string(q.Overflow), q.Overflow != "")
	set("message-ttl", q.MessageTTL.Milliseconds(), q.MessageTTL > 0)
	set("delivery-limit", q.DeliveryLimit, q.DeliveryLimit != 0)
	set("consumer-timeout", q.ConsumerTimeout.Milliseconds(), q.ConsumerTimeout > 0)
	set("consumer-disconnected-timeout", q.DisconnectedTimeout.Milliseconds(), q.DisconnectedTimeout > 0)
	set("expires", q.Expires.Milliseconds(), q.Expires > 0)
	set("queue-leader-locator", string(q.LeaderLocator), q.LeaderLocator != "")
	set("max-age", fmt.Sprintf("%ds", q.MaxAge/time.Second), q.MaxAge > 0)
	if r := q.DelayedRetry; r != nil {
		p["delayed-retry-type"] = "failed" // what was rejected, not what was given back
		p["delayed-retry-min"] = r.Min.Milliseconds()
		p["delayed-retry-max"] = r.Max.Milliseconds()
	}
	if d := q.DeadLetter; d != nil {
		p["dead-letter-exchange"] = d.Exchange
		p["dead-letter-routing-key"] = d.Key
		if q.Type == Quorum {
			p["dead-letter-strategy"] = "at-least-once"
			if d.AtMostOnce {
				p["dead-letter-strategy"] = "at-most-once"
			}
		}
	}
	return p
}
