package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one difference between the broker and the topology.
type Difference struct {
	// Entity is "exchange", "queue", "binding", "policy", "user".
	Entity string `json:"entity"`
	// Name is the name of the exchange, queue, policy or user. For a binding it is
	// "source -> destination key routing.key".
	Name string `json:"name"`
	// Field is the broker's name of the setting. It is empty when the whole entity is
	// missing or undeclared.
	Field string `json:"field,omitempty"`
	// Want and Have are the values, in JSON for settings that have a type. Want is empty for
	// a setting that should not exist, Have for one that does not exist.
	Want string `json:"want,omitempty"`
	Have string `json:"have,omitempty"`
}

// The values of Want and Have for whole entities.
const (
	entityDeclared   = "declared"
	entityMissing    = "missing"
	entityUndeclared = "not declared"
	entityPresent    = "present"
)

// String gives the difference as one line of text.
func (d Difference) String() string {
	value := func(s string) string {
		if s == "" {
			return "nothing"
		}
		return s
	}
	if d.Field == "" {
		return fmt.Sprintf("%s %q: want %s, have %s", d.Entity, d.Name, d.Want, d.Have)
	}
	return fmt.Sprintf("%s %q: %s: want %s, have %s", d.Entity, d.Name, d.Field, value(d.Want), value(d.Have))
}

// Verify compares the broker with the topology and reports every difference, in a stable order.
// It changes nothing.
//
// It compares the settings that are in effect. So it also finds a policy that another policy
// overrides, an operator policy that lowers a limit, and a queue argument that overrides the
// policy. It reports exchanges, queues, bindings and policies that the topology does not have,
// except for the broker's own, those of exclusive queues, and bindings to external entities.
// Of external entities only the fields that are set in their description are compared. If the
// topology has users, their tags and rights are compared, and other users with rights in the
// virtual host are reported, except for a.User. Passwords cannot be compared.
//
// There is an error when the broker cannot be reached or the topology is not valid.
func Verify(ctx context.Context, a Admin, t Topology) ([]Difference, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("verify topology: %w", err)
	}
	a, err := a.complete()
	if err != nil {
		return nil, err
	}
	api := a.management()
	defer api.close()
	v := verifyRun{}
	steps := []func() error{
		func() (err error) { v.policies, err = api.policies(ctx); return err },
		func() (err error) { v.exchanges, err = api.exchanges(ctx); return err },
		func() (err error) { v.queues, err = api.queues(ctx); return err },
		func() (err error) { v.bindings, err = api.bindings(ctx); return err },
	}
	if len(t.Users) > 0 {
		steps = append(steps,
			func() (err error) { v.users, err = api.users(ctx); return err },
			func() (err error) { v.permissions, err = api.permissions(ctx); return err },
		)
	}
	for _, read := range steps {
		if err := read(); err != nil {
			return nil, fmt.Errorf("verify topology: %w", err)
		}
	}
	v.compareExternal(t)
	v.compareExchanges(t)
	v.compareQueues(t)
	v.compareBindings(t)
	v.comparePolicies(t)
	if len(t.Users) > 0 {
		v.compareUsers(t, a.User)
	}
	return v.found, nil
}

// verifyRun has the entities of the broker and the differences found so far.
type verifyRun struct {
	policies    []mgmtPolicy
	exchanges   []mgmtExchange
	queues      []mgmtQueue
	bindings    []mgmtBinding
	users       []mgmtUser
	permissions []mgmtPermission

	found []Difference
}

// bindingKey identifies a binding.
type bindingKey struct {
	source, destination string
	toExchange          bool
	key, match          string
}

func (b Binding) identity() bindingKey {
	listed := make(map[string]any, len(b.Match))
	for name, value := range b.Match {
		switch v := value.(type) {
		case nil:
			listed[name] = "undefined" // as in the management API
		case float32:
			listed[name] = float64(v)
		default:
			listed[name] = value
		}
	}
	return bindingKey{b.Source, b.Destination, b.ToExchange, b.Key, canonical(listed)}
}

// comparePolicies finds policies that the topology does not have. Its own policies are compared
// by the settings in effect on their queue or exchange, except for those of links.
func (v *verifyRun) comparePolicies(t Topology) {
	declared := v.policiesOfOthers(t)
	for _, x := range t.Exchanges {
		if x.External {
			continue
		}
		declared[x.mgmtPolicy().Name] = len(x.mgmtPolicy().Definition) > 0
		if x.Federated { // its queues may not exist yet
			links := x.linkPolicy()
			declared[links.Name] = true
			v.compareTables("policy", links.Name, links.Definition, v.policy(links.Name).Definition)
		}
	}
	for _, q := range t.Queues {
		if !q.External {
			declared[q.Name] = len(q.policy()) > 0
		}
	}
	for _, p := range v.policies {
		if !declared[p.Name] {
			v.undeclared("policy", p.Name)
		}
	}
}

// policiesOfOthers has the policies that are in effect on external entities, by name.
func (v *verifyRun) policiesOfOthers(t Topology) map[string]bool {
	others := map[string]bool{}
	for _, x := range v.exchanges {
		if want, found := t.exchange(x.Name); found && want.External {
			others[x.Policy] = true
		}
	}
	for _, q := range v.queues {
		if want, found := t.Queue(q.Name); found && want.External {
			others[q.Policy] = true
		}
	}
	return others
}

func (v *verifyRun) compareUsers(t Topology, admin string) {
	users := byName(v.users, func(u mgmtUser) string { return u.Name })
	rights := byName(v.permissions, func(p mgmtPermission) string { return p.User })
	for _, want := range t.Users {
		u, ok := users[want.Name]
		p := rights[want.Name]
		delete(rights, want.Name)
		if !ok {
			v.missing("user", want.Name)
			continue
		}
		differ := v.of("user", want.Name)
		differ("tags", sortedList(want.Tags), sortedList(u.Tags))
		differ("configure", orNil(want.Configure), orNil(p.Configure))
		differ("write", orNil(want.Write), orNil(p.Write))
		differ("read", orNil(want.Read), orNil(p.Read))
	}
	for _, name := range slices.Sorted(maps.Keys(rights)) {
		if name != admin {
			v.undeclared("user", name)
		}
	}
}

func (v *verifyRun) missing(entity, name string) {
	v.found = append(v.found, Difference{Entity: entity, Name: name, Want: entityDeclared, Have: entityMissing})
}

func (v *verifyRun) undeclared(entity, name string) {
	v.found = append(v.found, Difference{Entity: entity, Name: name, Want: entityUndeclared, Have: entityPresent})
}

// of gives a function that reports a field of an entity if its values differ.
func (v *verifyRun) of(entity, name string) func(field string, want, have any) {
	return func(field string, want, have any) {
		if w, h := canonical(want), canonical(have); w != h {
			v.found = append(v.found, Difference{Entity: entity, Name: name, Field: field, Want: w, Have: h})
		}
	}
}

func (v *verifyRun) compareTables(entity, name string, want, have map[string]any) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(want)), maps.Keys(have))
	slices.Sort(keys)
	differ := v.of(entity, name)
	for _, key := range slices.Compact(keys) {
		differ(key, want[key], have[key])
	}
}

func (v *verifyRun) policy(name string) mgmtPolicy {
	i := slices.IndexFunc(v.policies, func(p mgmtPolicy) bool { return p.Name == name })
	if i < 0 {
		return mgmtPolicy{}
	}
	return v.policies[i]
}

// canonical gives a value as JSON, so that 5, int64(5) and 5.0 are equal. It is empty for nil.
func canonical(value any) string {
	if value == nil {
		return ""
	}
	text, err := json.Marshal(numbersAsValues(value))
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// numbersAsValues converts numbers that were read from JSON to Go numbers, so that equal
// numbers have the same form.
func numbersAsValues(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, element := range v {
			out[name] = numbersAsValues(element)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = numbersAsValues(element)
		}
		return out
	}
	return value
}

// orNil gives nil for the empty string.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func sortedList(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, item := range list {
		m[name(item)] = item
	}
	return m
}

// isBrokersOwn says whether the broker has made an entity with this name by itself.
func isBrokersOwn(name string) bool { return name == "" || strings.HasPrefix(name, "amq.") }

// bindingName gives a text that identifies a binding.
func bindingName(b Binding) string {
	name := b.Source + " -> " + b.Destination
	if b.ToExchange {
		name = b.Source + " -> exchange " + b.Destination
	}
	if b.Key != "" {
		name += " key " + b.Key
	}
	if len(b.Match) > 0 {
		name += " match " + canonical(b.Match)
	}
	return name
}
