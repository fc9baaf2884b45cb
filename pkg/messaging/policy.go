package messaging

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// policyPriority puts the policies that Apply writes above general ones, which usually have
// priority 0. Only one user policy is in effect on a queue: the one with the highest
// priority.
const policyPriority = 10

// mgmtPolicy is the policy of an exchange. Its name has a prefix, because a queue
// may have the exchange's name and policies of all kinds share one set of names.
func (x Exchange) mgmtPolicy() mgmtPolicy {
	p := mgmtPolicy{Name: "exchange:" + x.Name, Pattern: exactly(x.Name), ApplyTo: "exchanges", Priority: policyPriority, Definition: map[string]any{}}
	if x.Alternate != "" {
		p.Definition[argumentAlternate] = x.Alternate
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

// policy has all settings of a durable queue that may change while it is in use, under the
// broker's names; times are in milliseconds, a stream's age is in seconds.
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
	set("delivery-limit", int64(q.Retry.Limit), q.Retry.Limit != 0 && q.Type == Quorum)
	set("consumer-timeout", q.ConsumerTimeout.Milliseconds(), q.ConsumerTimeout > 0)
	set("consumer-disconnected-timeout", q.DisconnectedTimeout.Milliseconds(), q.DisconnectedTimeout > 0)
	set("expires", q.Expires.Milliseconds(), q.Expires > 0)
	set("queue-leader-locator", string(q.LeaderLocator), q.LeaderLocator != "")
	set("max-age", fmt.Sprintf("%ds", q.MaxAge/time.Second), q.MaxAge > 0)
	if q.brokerDelays() {
		p["delayed-retry-type"] = "failed" // only rejected messages, not those that were given back
		p["delayed-retry-min"] = q.Retry.MinDelay.Milliseconds()
		p["delayed-retry-max"] = q.Retry.MaxDelay.Milliseconds()
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

// A wantedPolicy is a policy of the topology. The broker refuses a policy without settings:
// then there must be none.
type wantedPolicy struct {
	mgmtPolicy
	queue bool // the policy of a queue
	of    string
}

// policies are the policies of a topology, in its order.
func (t Topology) policies() []wantedPolicy {
	var list []wantedPolicy
	for _, x := range t.Exchanges {
		if x.External {
			continue
		}
		list = append(list, wantedPolicy{x.mgmtPolicy(), false, x.Name})
		if x.Federated {
			list = append(list, wantedPolicy{x.linkPolicy(), false, x.Name})
		}
	}
	for _, q := range t.Queues {
		if !q.External {
			list = append(list, wantedPolicy{q.mgmtPolicy(), true, q.Name})
		}
	}
	return list
}

// policyChanges are policies to be written, or to be deleted if they have no settings: those
// of new entities, and those of entities that exist.
type policyChanges struct{ ofNew, ofOld []mgmtPolicy }

// plan finds the policies that have to change. A policy that has the name of one of ours and
// that Apply has not written is an error, since ours would replace it.
func (r *applyRun) plan(t Topology) (policyChanges, error) {
	var changes policyChanges
	var errs []error
	for _, want := range t.policies() {
		have, found := r.policies[want.Name]
		ours := found && have.Pattern == want.Pattern && have.Priority == policyPriority
		says := len(want.Definition) > 0
		switch {
		case found && !ours && says:
			errs = append(errs, fmt.Errorf("policy %q: Apply has not written the one of that name that is there (pattern %q, priority %d)",
				want.Name, have.Pattern, have.Priority))
		case !says && !ours, says && ours && have.equal(want.mgmtPolicy):
		case want.queue && r.queues[want.of], !want.queue && r.exchanges[want.of]:
			changes.ofOld = append(changes.ofOld, want.mgmtPolicy)
		default:
			changes.ofNew = append(changes.ofNew, want.mgmtPolicy)
		}
	}
	return changes, errors.Join(errs...)
}

func (p mgmtPolicy) equal(other mgmtPolicy) bool {
	return p.Pattern == other.Pattern && p.ApplyTo == other.ApplyTo && p.Priority == other.Priority &&
		canonical(p.Definition) == canonical(other.Definition)
}

// undoTimeout bounds restoring the earlier policies.
const undoTimeout = 15 * time.Second

// writePolicies writes policies, or deletes those without settings. When the broker refuses
// one, it restores those that it has changed before.
func (r *applyRun) writePolicies(ctx context.Context, policies []mgmtPolicy) error {
	for i, p := range policies {
		err := r.writePolicy(ctx, p)
		var answer *mgmtError
		if errors.As(err, &answer) && answer.status/100 == 4 {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			for _, written := range slices.Backward(policies[:i]) {
				before := r.policies[written.Name] // without settings if there was none
				before.Name = written.Name
				err = errors.Join(err, r.writePolicy(undo, before))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *applyRun) writePolicy(ctx context.Context, p mgmtPolicy) error {
	if len(p.Definition) > 0 {
		return r.api.putPolicy(ctx, p)
	}
	err := r.api.deletePolicy(ctx, p.Name)
	var answer *mgmtError
	if errors.As(err, &answer) && answer.status == http.StatusNotFound {
		return nil // deleted already: by another process, or by an attempt whose answer was lost
	}
	return err
}
