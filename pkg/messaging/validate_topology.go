package messaging

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Validate reports, by the names of fields, all that the broker would refuse, or accept and
// ignore: names, values, combinations of them, and dead-letter routes that lead to no queue.
// Nothing is sent to the broker.
func (t Topology) Validate() error {
	return errors.Join(t.validateExchanges(), t.validateQueues(), t.validateBindings(),
		t.validatePolicyNames(), validateUsers(t.Users), validateTypes(t.Types))
}

func (t Topology) validateExchanges() error {
	var errs []error
	seen := map[string]Exchange{}
	for _, x := range t.Exchanges {
		if before, found := seen[x.Name]; found {
			errs = append(errs, x.wrong(twice(before, x)))
		}
		seen[x.Name] = x
		errs = append(errs, x.validate())
		if _, found := t.exchange(x.Alternate); x.Alternate != "" && !found {
			errs = append(errs, x.wrong(fmt.Sprintf("Alternate: no exchange %q", x.Alternate)))
		}
	}
	return errors.Join(errs...)
}

func (t Topology) validateQueues() error {
	var errs []error
	seen := map[string]Queue{}
	for _, q := range t.Queues {
		if before, found := seen[q.Name]; found {
			errs = append(errs, q.wrong(twice(before, q)))
		}
		seen[q.Name] = q
		errs = append(errs, q.Validate(), t.validateDeadLetter(q))
		if q.Exclusive {
			errs = append(errs, q.wrong("Exclusive: is declared by the process that listens, not with a topology"))
		}
	}
	return errors.Join(errs...)
}

func (t Topology) validateBindings() error {
	var errs []error
	for _, b := range t.Bindings {
		_, toExchange := t.exchange(b.Destination)
		_, toQueue := t.Queue(b.Destination)
		source, ok := t.exchange(b.Source)
		switch err := b.validate(); {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			errs = append(errs, b.wrong("Source", fmt.Sprintf("no exchange %q", b.Source)))
		case b.ToExchange && !toExchange, !b.ToExchange && !toQueue:
			errs = append(errs, b.wrong("Destination", "not declared"))
		default:
			errs = append(errs, b.validateMatch(source.Kind))
		}
	}
	return errors.Join(errs...)
}

// validatePolicyNames refuses two policies with the same name: the second would replace the
// first.
func (t Topology) validatePolicyNames() error {
	var errs []error
	of := map[string]string{}
	for _, p := range t.policies() {
		if before, taken := of[p.Name]; taken && before != p.Pattern {
			errs = append(errs, fmt.Errorf("policy %q: two have this name, for %s and for %s", p.Name, before, p.Pattern))
		}
		of[p.Name] = p.Pattern
	}
	return errors.Join(errs...)
}

// coreKinds are the exchange kinds that need no plugin.
var coreKinds = []ExchangeKind{Direct, Fanout, Topic, Headers, ModulusHash}

func (x Exchange) validate() error {
	if x.Name == "" {
		return errors.New("exchange: Name: must not be empty")
	}
	name := checkNewName(x.Name)
	if x.External {
		name = checkName(x.Name)
	}
	switch {
	case name != nil:
		return x.wrong(fmt.Sprintf("Name: %v", name))
	case x.Kind == "" && !x.External:
		return x.wrong("Kind: must not be empty")
	case x.External && (x.Alternate != "" || x.AutoDelete || x.Federated || x.Arguments != nil):
		return x.wrong("External: somebody else sets Alternate, AutoDelete, Federated and Arguments")
	}
	if err := checkName(string(x.Kind)); err != nil {
		return x.wrong(fmt.Sprintf("Kind: %v", err))
	}
	if err := checkArguments(x.Arguments, Exchange{Alternate: x.Alternate}.allArguments()); err != nil {
		return x.wrong(fmt.Sprintf("Arguments: %v", err))
	}
	return nil
}

func (x Exchange) wrong(what string) error { return fmt.Errorf("exchange %.80q: %s", x.Name, what) }

// validate reports what is wrong with a binding whatever its exchange is.
func (b Binding) validate() error {
	if b.Source == "" {
		return b.wrong("Source", "the default exchange has the bindings that it has")
	}
	for _, f := range [...]struct {
		field string
		err   error
	}{{"Source", checkName(b.Source)}, {"Destination", checkName(b.Destination)}, {"Key", checkText(b.Key)}} {
		if f.err != nil {
			return b.wrong(f.field, f.err.Error())
		}
	}
	if value, given := b.Match["x-match"]; given {
		if match, _ := value.(string); !slices.Contains(matches, match) {
			return b.wrong("Match", "x-match must be all, any, all-with-x or any-with-x")
		}
	}
	if _, err := b.match(); err != nil {
		return b.wrong("Match", err.Error())
	}
	return nil
}

var matches = []string{"all", "any", "all-with-x", "any-with-x"}

// validateMatch reports arguments that an exchange of this kind ignores, and missing arguments
// that it needs. The kind may be unknown or a plugin's.
func (b Binding) validateMatch(source ExchangeKind) error {
	_, given := b.Match["x-match"]
	switch {
	case source == Headers && !given:
		return b.wrong("Match", "x-match must be all, any, all-with-x or any-with-x: a headers exchange needs it")
	case source != Headers && slices.Contains(coreKinds, source) && b.Match != nil:
		return b.wrong("Match", "only a headers exchange looks at it")
	}
	return nil
}

func (b Binding) wrong(field, rule string) error {
	return fmt.Errorf("binding %.80s -> %.80s: %s: %s", b.Source, b.Destination, field, rule)
}

// match gives the argument table as it is sent.
func (b Binding) match() (amqp.Table, error) { return carriedArguments(b.Match) }

// Validate reports, by field, what the broker would refuse or ignore.
func (q Queue) Validate() error { return q.validate(!q.External) }

// validate checks the description of a queue. A queue that is to be declared needs a complete
// (whole) description. For a queue that exists fields may be left out.
func (q Queue) validate(whole bool) error {
	on := func(types ...QueueType) bool { return slices.Contains(types, q.Type) || q.Type == "" && !whole }
	quorum, classic, stream := on(Quorum), on(Classic), q.Type == Stream
	dead, r := q.DeadLetter, q.Retry
	rules := []struct {
		broken      bool
		field, rule string
	}{
		{q.Name == "" && (!q.Exclusive || !whole), "Name", "only an exclusive queue is named by the server"},
		{!on(Quorum, Classic, Stream), "Type", fmt.Sprintf("unknown type %q", q.Type)},
		{q.Exclusive && !classic, "Exclusive", "only a classic queue can be exclusive"},
		{q.Exclusive && q.AutoDelete, "AutoDelete", "an exclusive queue is gone with its connection"},
		{q.SingleActiveConsumer && stream, "SingleActiveConsumer", "not on a stream"},
		{q.MaxLength < 0, "MaxLength", "must not be negative"},
		{q.MaxLength > 0 && stream, "MaxLength", "a stream is bounded by MaxLengthBytes and MaxAge; with it the broker ignores the whole policy"},
		{q.MaxLengthBytes < 0, "MaxLengthBytes", "must not be negative"},
		{!slices.Contains([]Overflow{"", DropHead, RejectPublish, RejectPublishDLX}, q.Overflow), "Overflow", fmt.Sprintf("unknown behaviour %q", q.Overflow)},
		{q.Overflow == RejectPublishDLX && !classic, "Overflow", "reject-publish-dlx is for classic queues"},
		{q.AutoDelete && !classic, "AutoDelete", "only on a classic queue"},
		{q.MaxPriority > 0 && !classic, "MaxPriority", "only on a classic queue: a quorum queue has 32 priorities always"},
		{q.Expires > 0 && stream, "Expires", "not on a stream"},
		{!slices.Contains([]LeaderLocator{"", ClientLocal, Balanced}, q.LeaderLocator), "LeaderLocator", fmt.Sprintf("unknown locator %q", q.LeaderLocator)},
		{q.LeaderLocator != "" && q.Type == Classic, "LeaderLocator", "not on a classic queue"},
		{q.Overflow != "" && stream, "Overflow", "a stream truncates by age and size"},
		{q.MessageTTL > 0 && stream, "MessageTTL", "a stream has MaxAge"},
		{r != Retry{} && stream, "Retry", "not on a stream: reading takes nothing out"},
		{r != Retry{} && q.Exclusive, "Retry", "not on an exclusive queue: what fails there is gone"},
		{r.Limit < Unlimited, "Retry.Limit", "must be -1, 0 or more"},
		{(r.MinDelay != 0 || r.MaxDelay != 0) && (r.MinDelay < time.Millisecond || r.MaxDelay < r.MinDelay), "Retry.MinDelay", "wants 1 ms <= MinDelay <= MaxDelay"},
		{r.InPlace > maxWait, "Retry.InPlace", fmt.Sprintf("at most %s", maxWait)},
		{dead != nil && stream, "DeadLetter", "not on a stream"},
		{dead != nil && dead.Key == "", "DeadLetter", "needs a key"},
		{q.External && q.Arguments != nil, "Arguments", "are somebody else's on an External queue"},
		{dead != nil && whole && quorum && !dead.AtMostOnce && q.Overflow != RejectPublish, "Overflow", "at-least-once dead-lettering needs reject-publish; without it the broker falls back to at-most-once"},
		{q.ConsumerTimeout > 0 && !quorum, "ConsumerTimeout", "only on a quorum queue: the others do not look at it"},
		{q.DisconnectedTimeout > 0 && !quorum, "DisconnectedTimeout", "only on a quorum queue"},
		{q.MaxAge < 0 || q.MaxAge > 0 && !on(Stream), "MaxAge", "only on a stream, and not negative"},
		{q.MaxAge%time.Second != 0, "MaxAge", "whole seconds"},
	}
	errs := []error{q.validateValues(whole)}
	for _, r := range rules {
		if r.broken {
			errs = append(errs, q.wrong(r.field+": "+r.rule))
		}
	}
	return errors.Join(errs...)
}

// validateValues reports each invalid name and time of a queue.
func (q Queue) validateValues(whole bool) error {
	name := checkName(q.Name)
	if whole {
		name = checkNewName(q.Name)
	}
	if whole && name == nil { // it is also the name of a policy
		name = checkPathName(q.Name)
	}
	values := []struct {
		field string
		err   error
	}{
		{"Name", name},
		{"Arguments", checkArguments(q.Arguments, q.fieldArguments())},
		{"MessageTTL", checkWait(q.MessageTTL)},
		{"ConsumerTimeout", checkWait(q.ConsumerTimeout)},
		{"DisconnectedTimeout", checkWait(q.DisconnectedTimeout)},
		{"Expires", checkWait(q.Expires)},
		{"Retry.MinDelay", checkWait(q.Retry.MinDelay)},
		{"Retry.MaxDelay", checkWait(q.Retry.MaxDelay)},
	}
	type value = struct {
		field string
		err   error
	}
	if d := q.DeadLetter; d != nil {
		values = append(values, value{"DeadLetter.Exchange", checkName(d.Exchange)}, value{"DeadLetter.Key", checkText(d.Key)})
	}
	var errs []error
	for _, v := range values {
		if v.err != nil {
			errs = append(errs, q.wrong(v.field+": "+v.err.Error()))
		}
	}
	return errors.Join(errs...)
}

func (q Queue) wrong(what string) error { return fmt.Errorf("queue %.80q: %s", q.Name, what) }

// validateUsers refuses names and tags that the management API would take for something else.
func validateUsers(users []User) error {
	var errs []error
	seen := map[string]User{}
	for _, u := range users {
		wrong := func(what string) { errs = append(errs, fmt.Errorf("user %.80q: %s", u.Name, what)) }
		if u.Name == "" {
			wrong("Name: must not be empty")
		}
		if err := checkPathName(u.Name); err != nil {
			wrong("Name: " + err.Error())
		}
		if before, found := seen[u.Name]; found {
			wrong(twice(before, u))
		}
		seen[u.Name] = u
		for _, tag := range u.Tags {
			if tag == "" || strings.ContainsAny(tag, ", ") || checkName(tag) != nil {
				wrong(fmt.Sprintf("Tags: %q is no tag", tag))
			}
		}
	}
	return errors.Join(errs...)
}

func validateTypes(types []MessageType) error {
	var errs []error
	seen := map[string]MessageType{}
	for _, t := range types {
		if before, found := seen[t.Name]; found && before != t {
			errs = append(errs, fmt.Errorf("message type %.80q: %s", t.Name, twice(before, t)))
		}
		seen[t.Name] = t
		for _, f := range [...]struct {
			field string
			err   error
		}{{"Name", checkText(t.Name)}, {"Exchange", checkName(t.Exchange)}, {"Owner", checkText(t.Owner)}} {
			if f.err != nil {
				errs = append(errs, fmt.Errorf("message type %.80q: %s: %w", t.Name, f.field, f.err))
			}
		}
	}
	return errors.Join(errs...)
}
