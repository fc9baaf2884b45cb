package messaging

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// WorkQueue makes a queue for work that must not be lost, and the topology of it and of
// the queue of its dead letters, NAME.dead: both are quorum queues. The dead letters go
// there by the default exchange, see [DeadLetter].
//
//	jobs, topology := messaging.WorkQueue("jobs", messaging.Retry{Limit: 5})
func WorkQueue(name string, retry Retry) (Queue, Topology) {
	dead := Queue{Name: name + ".dead", Type: Quorum, Retry: Retry{Limit: Unlimited}}
	work := Queue{
		Name:       name,
		Type:       Quorum,
		Retry:      retry,
		Overflow:   RejectPublish, // at-least-once dead-lettering needs it
		DeadLetter: &DeadLetter{Key: dead.Name},
	}
	return work, Topology{Queues: []Queue{dead, work}}
}

// Merge joins topologies in the given order, as those of several teams are. What several
// of them have in the same way is there once. What one of them makes, and is external to
// another one, is no longer external, if it is as the other one says.
//
// Where they contradict each other, both are in the result, and [Topology.Validate] says
// what is twice, and in which fields it differs.
func Merge(parts ...Topology) Topology {
	var all Topology
	bound := map[bindingKey]bool{}
	for _, p := range parts {
		for _, x := range p.Exchanges {
			all.Exchanges = join(all.Exchanges, x, func(have Exchange) bool { return have.Name == x.Name })
		}
		for _, q := range p.Queues {
			all.Queues = join(all.Queues, q, func(have Queue) bool { return have.Name == q.Name })
		}
		for _, u := range p.Users {
			all.Users = join(all.Users, u, func(have User) bool { return have.Name == u.Name })
		}
		for _, m := range p.Types {
			all.Types = join(all.Types, m, func(have MessageType) bool { return have.Name == m.Name })
		}
		for _, b := range p.Bindings {
			if key := b.identity(); !bound[key] {
				bound[key] = true
				all.Bindings = append(all.Bindings, b)
			}
		}
	}
	return all
}

// join adds an entity to a list, unless one of its name there is the same or contradicts
// nothing that it says.
func join[T any](list []T, one T, same func(T) bool) []T {
	i := slices.IndexFunc(list, same)
	if i < 0 {
		return append(list, one)
	}
	have := list[i]
	switch {
	case reflect.DeepEqual(have, one), describes(have, one):
		return list
	case describes(one, have):
		list = slices.Clone(list)
		list[i] = one
		return list
	default:
		return append(list, one)
	}
}

// describes says whether an entity is what another one says, which is external.
func describes(entity, external any) bool {
	switch want := external.(type) {
	case Exchange:
		have, _ := entity.(Exchange)
		return want.External && (want.Kind == "" || want.Kind == have.Kind) && (!want.Internal || have.Internal)
	case Queue:
		have, _ := entity.(Queue)
		said := have.described()
		for key, value := range want.described() {
			if canonical(said[key]) != canonical(value) {
				return false
			}
		}
		return want.External
	default:
		return false
	}
}

// described are the settings that the description of a queue has, under the names of
// arguments, wherever they are written.
func (q Queue) described() map[string]any {
	all := map[string]any(q.allArguments())
	if q.Type == "" {
		delete(all, argumentType)
	}
	return all
}

// twice says in which fields two entities of one name differ. One that is external says
// nothing with those that it leaves out.
func twice(a, b any) string {
	var differ []string
	one, other := reflect.ValueOf(a), reflect.ValueOf(b)
	silent := func(entity, field reflect.Value) bool {
		external := entity.FieldByName("External")
		return external.IsValid() && external.Bool() && field.IsZero()
	}
	for i := range one.NumField() {
		name, x, y := one.Type().Field(i).Name, one.Field(i), other.Field(i)
		if name == "External" || silent(one, x) || silent(other, y) || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		differ = append(differ, fmt.Sprintf("%s %s and %s", name, shown(x.Interface()), shown(y.Interface())))
	}
	if len(differ) == 0 {
		return "declared twice"
	}
	return "declared twice, with " + strings.Join(differ, ", ")
}

// shown is the value of a field as text.
func shown(value any) string {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && !v.IsNil() {
		value = v.Elem().Interface()
	}
	if table, ok := value.(map[string]any); ok {
		return fmt.Sprint(slices.Sorted(maps.Keys(table)))
	}
	return cmp.Or(fmt.Sprintf("%+v", value), `""`)
}
