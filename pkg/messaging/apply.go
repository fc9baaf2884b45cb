package messaging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"
)

// Apply brings a topology to the broker: exchanges, policies, queues and bindings. It waits
// for the broker until ctx is done, so give ctx a deadline.
//
// It checks before it changes anything: first the topology itself ([Topology.Validate]),
// then all entities that the broker has already. An external entity that is missing or
// differs from its description is an error. The broker refuses an entity that differs in
// something that can never change, such as a queue's type or an exchange's kind: with 406
// PRECONDITION_FAILED and the name of the argument. When there is already a policy with a
// name that Apply would use, and Apply has not written it, that is an error too, and the
// policy stays.
//
// To apply a topology again changes nothing, and a changed setting changes one policy: both
// are safe while the system runs. For a new queue Apply writes the policy before it declares
// the queue, and it declares a dead-letter queue before the queue that uses it. So no queue
// is ever without its settings. Policies of entities that exist change last. So when Apply
// is refused, it has changed nothing that existed. When it ends early, because ctx is done,
// it may have made some new entities, each queue with its settings; the next Apply makes the
// rest.
//
// Apply never deletes an exchange, a queue or a binding, since messages may depend on it:
// [Verify] reports those that are not in the topology.
//
// Users are not touched: see [ApplyUsers].
func Apply(ctx context.Context, a Admin, t Topology) error {
	err := apply(ctx, a, t)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) { // an error after the end of ctx is one of ctx
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	return nil
}

func apply(ctx context.Context, a Admin, t Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	a, err := a.complete()
	if err != nil {
		return err
	}
	config := Config{URLs: []string{a.AMQPURL}, User: a.User, Password: a.Password, Name: "topology", TLS: a.TLS, Logger: a.Logger}
	config.CallTimeout = declareTimeout
	l, err := newLink(ctx, config.withDefaults(), "apply")
	if err != nil {
		return err
	}
	defer l.close(ctx)
	api := a.management()
	defer api.close()
	d, done, err := l.declarer(ctx)
	if err != nil {
		return err
	}
	defer done()
	run := applyRun{declarer: d, api: api}
	if err := run.apply(ctx, t); err != nil {
		return err
	}
	a.Logger.Info("topology applied", zap.String("vhost", a.VHost), zap.Int("exchanges", len(t.Exchanges)),
		zap.Int("queues", len(t.Queues)), zap.Int("bindings", len(t.Bindings)))
	return nil
}

// applyRun is one run of Apply over one channel.
type applyRun struct {
	*declarer
	api *mgmtClient

	// The entities that the broker has, by name.
	policies          map[string]mgmtPolicy
	exchanges, queues map[string]bool
}

// look asks which entities the broker has, and checks the external ones.
func (r *applyRun) look(ctx context.Context, t Topology) error {
	policies, err := r.api.policies(ctx)
	if err != nil {
		return err
	}
	exchanges, err := r.api.exchanges(ctx)
	if err != nil {
		return err
	}
	queues, err := r.api.queues(ctx)
	if err != nil {
		return err
	}
	r.policies = byName(policies, func(p mgmtPolicy) string { return p.Name })
	r.exchanges, r.queues = map[string]bool{}, map[string]bool{}
	for _, x := range exchanges {
		r.exchanges[x.Name] = true
	}
	for _, q := range queues {
		r.queues[q.Name] = true
	}
	if err := r.checkKinds(ctx, t); err != nil {
		return err
	}
	v := verifyRun{exchanges: exchanges, queues: queues}
	v.compareExternal(t)
	var errs []error
	for _, d := range v.found {
		errs = append(errs, fmt.Errorf("external %s", d))
	}
	return errors.Join(errs...)
}

// checkKinds refuses exchange kinds that the broker does not have: the broker would close the
// connection when one is declared.
func (r *applyRun) checkKinds(ctx context.Context, t Topology) error {
	var known []ExchangeKind // the kinds that the broker has, once asked
	for _, x := range t.Exchanges {
		if x.External || slices.Contains(coreKinds, x.Kind) {
			continue
		}
		if known == nil {
			var err error
			if known, err = r.api.exchangeKinds(ctx); err != nil {
				return err
			}
		}
		if !slices.Contains(known, x.Kind) {
			return fmt.Errorf("exchange %q: %w", x.Name, unknownKind(x.Kind))
		}
	}
	return nil
}

// apply first declares the entities that exist, which changes nothing and is refused when one
// differs. Then it makes the new ones, and then it changes the policies of the existing ones.
func (r *applyRun) apply(ctx context.Context, t Topology) error {
	if err := r.look(ctx, t); err != nil {
		return err
	}
	changes, err := r.plan(t)
	if err != nil {
		return err
	}
	for _, q := range t.Queues {
		if r.queues[q.Name] && !q.External {
			if err := r.queue(ctx, q, q.arguments()); err != nil {
				return err
			}
		}
	}
	if err := r.declareExchanges(ctx, t, true); err != nil {
		return err
	}
	if err := r.writePolicies(ctx, changes.ofNew); err != nil {
		return err
	}
	if err := r.declareExchanges(ctx, t, false); err != nil {
		return err
	}
	for _, b := range t.Bindings {
		if b.ToExchange {
			if err := r.bind(ctx, b); err != nil {
				return err
			}
		}
	}
	for _, q := range deadLettersFirst(t.Queues) {
		if err := r.queueWithBindings(ctx, q, t.Bindings); err != nil {
			return err
		}
	}
	return r.writePolicies(ctx, changes.ofOld)
}

// declareExchanges declares the exchanges that exist, or those that do not.
func (r *applyRun) declareExchanges(ctx context.Context, t Topology, there bool) error {
	for _, x := range t.Exchanges {
		if x.External || r.exchanges[x.Name] != there {
			continue
		}
		if err := r.exchange(ctx, x, carried(x.Arguments)); err != nil {
			return err
		}
	}
	return nil
}

func (r *applyRun) queueWithBindings(ctx context.Context, q Queue, bindings []Binding) error {
	if !r.queues[q.Name] {
		if err := r.queue(ctx, q, q.arguments()); err != nil {
			return err
		}
	}
	for _, b := range bindings {
		if !b.ToExchange && b.Destination == q.Name {
			if err := r.bind(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// deadLettersFirst puts queues without a DeadLetter before those with one, and keeps the
// order otherwise.
func deadLettersFirst(queues []Queue) []Queue {
	rank := func(q Queue) int {
		if q.DeadLetter == nil {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(queues), func(a, b Queue) int { return cmp.Compare(rank(a), rank(b)) })
}

// ApplyUsers creates the users, or sets their passwords and tags, and gives them their rights
// in the virtual host of a. It first validates all users and calls password once for each;
// on an error nothing is sent. Users that are not in the list are not changed.
//
// It is safe to run it again: open connections stay, and changed rights hold on new channels
// at once.
func ApplyUsers(ctx context.Context, a Admin, users []User, password func(user string) (string, error)) error {
	a, err := a.complete()
	if err != nil {
		return err
	}
	if err := validateUsers(users); err != nil {
		return fmt.Errorf("apply users: %w", err)
	}
	if password == nil {
		return errors.New("messaging: password: must not be nil")
	}
	secrets := make([]string, len(users))
	for i, u := range users {
		secret, err := password(u.Name)
		if err != nil {
			return fmt.Errorf("apply user %q: password: %w", u.Name, err)
		}
		if secret == "" {
			return fmt.Errorf("apply user %q: password: must not be empty", u.Name)
		}
		secrets[i] = secret
	}
	api := a.management()
	defer api.close()
	for i, u := range users {
		err := api.putUser(ctx, u, secrets[i])
		var refused *mgmtError
		if errors.As(err, &refused) && refused.status == http.StatusBadRequest {
			err = api.putUser(ctx, u, secrets[i]) // another process has made it at the same time
		}
		if err != nil {
			return fmt.Errorf("apply user %q: %w", u.Name, err)
		}
		if err := api.putPermission(ctx, u); err != nil {
			return fmt.Errorf("apply user %q: %w", u.Name, err)
		}
	}
	a.Logger.Info("users applied", zap.String("vhost", a.VHost), zap.Int("users", len(users)))
	return nil
}
