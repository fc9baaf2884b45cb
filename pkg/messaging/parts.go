package messaging

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// WorkQueue describes a quorum queue for work that must not be lost. The topology has this
// queue and a quorum queue for its dead letters, NAME.dead, which they reach over the default
// exchange: see [DeadLetter].
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

// Merge joins topologies, for example those of several teams, in the given order. An entity
// that several of them have with the same settings is in the result once. An entity that one
// of them has and that is external in another is no longer external, if it agrees with the
// external description.
//
// When they contradict each other both entities are in the result, and [Topology.Validate]
// says which are there twice and in which fields they differ.
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

// join adds an entity to a list, unless the list has one with the same name that does not
// contradict it.
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

// describes says whether an entity agrees with the description of an external one.
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

// described are the settings in the description of a queue, by the names of arguments.
func (q Queue) described() map[string]any {
	all := map[string]any(q.allArguments())
	if q.Type == "" {
		delete(all, argumentType)
	}
	return all
}

// twice says in which fields two entities with the same name differ. Fields that an external
// one leaves empty are not compared.
func twice(a, b any) string {
	var differ []string
	one, other := reflect.ValueOf(a), reflect.ValueOf(b)
	leftOut := func(entity, field reflect.Value) bool {
		external := entity.FieldByName("External")
		return external.IsValid() && external.Bool() && field.IsZero()
	}
	for i := range one.NumField() {
		name, x, y := one.Type().Field(i).Name, one.Field(i), other.Field(i)
		if name == "External" || leftOut(one, x) || leftOut(other, y) || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		differ = append(differ, fmt.Sprintf("%s %s and %s", name, shown(x.Interface()), shown(y.Interface())))
	}
	if len(differ) == 0 {
		return "declared twice"
	}
	return "declared twice, with " + strings.Join(differ, ", ")
}

// shown gives the value of a field as text.
func shown(value any) string {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && !v.IsNil() {
		value = v.Elem().Interface()
	}
	if table, ok := value.(map[string]any); ok {
		return fmt.Sprint(slices.Sorted(maps.Keys(table)))
	}
	return cmp.Or(fmt.Sprintf("%+v", value), `""`)
}
