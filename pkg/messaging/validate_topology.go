package messaging

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Validate reports everything that the broker would refuse, or accept and then not
// honour, each by the field's name: names, values and combinations of them, and dead
// letters that no queue would get. Nothing is sent to the broker.
func (t Topology) Validate() error {
	var errs []error
	exchanges := map[string]Exchange{}
	for _, x := range t.Exchanges {
		if _, twice := exchanges[x.Name]; twice {
			errs = append(errs, x.wrong("declared twice"))
		}
		exchanges[x.Name] = x
		errs = append(errs, x.validate())
	}
	for _, x := range t.Exchanges {
		if _, ok := exchanges[x.Alternate]; x.Alternate != "" && !ok {
			errs = append(errs, x.wrong(fmt.Sprintf("Alternate: no exchange %q", x.Alternate)))
		}
	}
	queues := map[string]bool{}
	for _, q := range t.Queues {
		if queues[q.Name] {
			errs = append(errs, q.wrong("declared twice"))
		}
		queues[q.Name] = true
		errs = append(errs, q.Validate(), t.validateDeadLetter(q))
		if q.Exclusive {
			errs = append(errs, q.wrong("Exclusive: is declared by the process that listens, not with a topology"))
		}
	}
	for _, b := range t.Bindings {
		_, toExchange := exchanges[b.Destination]
		source, ok := exchanges[b.Source]
		switch err := b.validate(); {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			errs = append(errs, b.wrong("Source", fmt.Sprintf("no exchange %q", b.Source)))
		case b.ToExchange && !toExchange, !b.ToExchange && !queues[b.Destination]:
			errs = append(errs, b.wrong("Destination", "not declared"))
		case source.Kind == Headers && b.Match == nil:
			errs = append(errs, b.wrong("Match", "a headers exchange needs x-match"))
		case source.Kind != Headers && b.Match != nil:
			errs = append(errs, b.wrong("Match", "only a headers exchange looks at it"))
		}
	}
	return errors.Join(append(errs, t.validatePolicyNames(), validateUsers(t.Users), validateTypes(t.Types))...)
}

// validatePolicyNames refuses names of which two policies would have one: the second
// would take the place of the first.
func (t Topology) validatePolicyNames() error {
	var errs []error
	of := map[string]string{}
	for _, p := range t.policies() {
		if before, taken := of[p.Name]; taken && before != p.Pattern {
			errs = append(errs, fmt.Errorf("policy %q: is the name of two, for %s and for %s", p.Name, before, p.Pattern))
		}
		of[p.Name] = p.Pattern
	}
	return errors.Join(errs...)
}

func (x Exchange) validate() error {
	kinds := []ExchangeKind{Direct, Fanout, Topic, Headers, ModulusHash}
	if x.Name == "" {
		return errors.New("exchange: Name: must not be empty")
	}
	if err := checkNewName(x.Name); err != nil {
		return x.wrong(fmt.Sprintf("Name: %v", err))
	}
	if !slices.Contains(kinds, x.Kind) {
		return x.wrong(fmt.Sprintf("Kind: unknown kind %q", x.Kind))
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
	if b.Match == nil {
		return nil
	}
	if match, _ := b.Match["x-match"].(string); !slices.Contains([]string{"all", "any", "all-with-x", "any-with-x"}, match) {
		return b.wrong("Match", "x-match must be all, any, all-with-x or any-with-x")
	}
	if _, err := b.match(); err != nil {
		return b.wrong("Match", err.Error())
	}
	return nil
}

func (b Binding) wrong(field, rule string) error {
	return fmt.Errorf("binding %.80s -> %.80s: %s: %s", b.Source, b.Destination, field, rule)
}

// match is the argument table as it goes out. What compares with nothing, and what the
// management API does not list as it is, is an error.
func (b Binding) match() (amqp.Table, error) {
	w := tableWalk{}
	table, _, err := w.table(b.Match, 0, maxElements)
	if err != nil {
		return nil, err
	}
	out := make(amqp.Table, len(table))
	for name, value := range table {
		switch v := value.(type) {
		case time.Time:
			return nil, fmt.Errorf("%q: the broker never finds two times equal", name)
		case []byte:
			return nil, fmt.Errorf("%q: bytes cannot be told from a string when the binding is read", name)
		case float32: // equal to the broker, and listed with the digits of a float64
			out[name] = float64(v)
		default:
			out[name] = value
		}
	}
	if b.Match == nil {
		return nil, nil
	}
	return out, nil
}

// Validate reports what the broker would refuse or quietly not honour, by field.
func (q Queue) Validate() error { return q.validate(true) }

// validate checks the description of a queue that is to be declared, which is whole, or
// of one that exists: then it may be incomplete, and what is in it must be right.
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
		{dead != nil && (dead.Exchange == "" || dead.Key == ""), "DeadLetter", "needs an exchange and a key"},
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

// validateValues reports each name and time of a queue that cannot be.
func (q Queue) validateValues(whole bool) error {
	name := checkName(q.Name)
	if whole {
		name = checkNewName(q.Name)
	}
	if whole && name == nil { // it names a policy too
		name = checkPathName(q.Name)
	}
	values := []struct {
		field string
		err   error
	}{
		{"Name", name},
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

// validateUsers refuses names and tags that the management API would read otherwise.
func validateUsers(users []User) error {
	var errs []error
	seen := map[string]bool{}
	for _, u := range users {
		wrong := func(what string) { errs = append(errs, fmt.Errorf("user %.80q: %s", u.Name, what)) }
		if u.Name == "" {
			wrong("Name: must not be empty")
		}
		if err := checkPathName(u.Name); err != nil {
			wrong("Name: " + err.Error())
		}
		if seen[u.Name] {
			wrong("declared twice")
		}
		seen[u.Name] = true
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
	for _, t := range types {
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
