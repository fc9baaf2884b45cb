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

// Apply makes the broker have the topology: exchanges, policies, queues, bindings.
// It waits for the broker until ctx is done, so give ctx a deadline.
//
// It checks before it changes: the topology by itself, which sends nothing when it is
// not valid ([Topology.Validate]), then everything of it that the broker has already.
// An external entity that is missing, or not as described, is an error. What differs in
// something that can never change (a queue's type, an exchange's kind) is refused by the
// broker, with 406 PRECONDITION_FAILED and the argument's name. A
// policy of the name of one of ours that Apply has not written is refused, and stays.
//
// Applying again changes nothing, and a changed tunable changes one policy: both are
// safe while the system runs. Of what the broker does not have, a queue's policy is
// written before the queue is declared, and a dead-letter queue before the queue that
// uses it: no queue is ever without its settings. The policies of what it has change
// last. So an Apply that is refused, whenever that is, has changed nothing that was
// there; one that ends early, because ctx does, may have made some of what is new,
// each queue with its settings, and the next one goes on from there.
//
// Apply never deletes an exchange, a queue or a binding, since messages may depend
// on it: [Verify] reports those that the topology does not have.
//
// Users are not touched: see [ApplyUsers].
func Apply(ctx context.Context, a Admin, t Topology) error {
	err := apply(ctx, a, t)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) { // what was cut short says no more than that
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

	// What the broker has, by name.
	policies          map[string]mgmtPolicy
	exchanges, queues map[string]bool
}

// look finds out what the broker has, and whether it has what is somebody else's.
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

// checkKinds refuses kinds of exchanges that the broker does not have: it would end the
// connection over one, in the middle of the work.
func (r *applyRun) checkKinds(ctx context.Context, t Topology) error {
	var known []ExchangeKind // of the broker, once asked
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

// apply declares what is there first, which changes nothing and is refused when it is
// not as declared; then makes what is not; then changes the policies of what was there.
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

// declareExchanges declares those that are there, or those that are not.
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

// ApplyUsers creates the users, or sets their passwords and tags, and gives them
// their rights in the virtual host of a. password is asked once for each, before
// anything is sent; nothing is sent for users that are not valid either. Users that are
// not in the list are left alone.
//
// Running it again is safe: open connections stay, and changed rights are in
// effect on new channels at once.
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
			err = api.putUser(ctx, u, secrets[i]) // somebody else has made it at the same moment
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
