package messaging

import (
	"cmp"
	"maps"
	"slices"
)

// compareExternal finds external entities that are missing or differ from their description.
func (v *verifyRun) compareExternal(t Topology) {
	exchanges := byName(v.exchanges, func(x mgmtExchange) string { return x.Name })
	for _, want := range t.Exchanges {
		x, ok := exchanges[want.Name]
		switch {
		case !want.External:
		case !ok:
			v.missing("exchange", want.Name)
		case want.Kind != "":
			v.of("exchange", want.Name)("type", string(want.Kind), x.Type)
		}
	}
	queues := byName(v.queues, func(q mgmtQueue) string { return q.Name })
	for _, want := range t.Queues {
		q, ok := queues[want.Name]
		switch {
		case !want.External:
		case !ok:
			v.missing("queue", want.Name)
		default:
			v.compareDescription(want, q)
		}
	}
}

// compareDescription compares an external queue with its description, whether its owner has set
// the settings by arguments or by a policy.
func (v *verifyRun) compareDescription(want Queue, q mgmtQueue) {
	have := map[string]any{}
	for key, value := range q.Effective {
		have["x-"+key] = value
	}
	maps.Copy(have, q.Arguments) // they override the policy
	have[argumentType] = q.Type
	said := want.described()
	differ := v.of("queue", want.Name)
	for _, key := range slices.Sorted(maps.Keys(said)) {
		differ(key, said[key], have[key])
	}
}

func (v *verifyRun) compareExchanges(t Topology) {
	have := byName(v.exchanges, func(x mgmtExchange) string { return x.Name })
	for _, want := range t.Exchanges {
		x, ok := have[want.Name]
		delete(have, want.Name)
		if want.External {
			continue
		}
		if !ok {
			v.missing("exchange", want.Name)
			continue
		}
		differ := v.of("exchange", want.Name)
		differ("type", string(want.Kind), x.Type)
		differ("durable", true, x.Durable)
		differ("auto_delete", want.AutoDelete, x.AutoDelete)
		differ("internal", want.Internal, x.Internal)
		policy := v.policy(x.Policy).Definition
		arguments := carried(want.Arguments)
		alternate, byArgument := x.Arguments[argumentAlternate]
		if !byArgument {
			alternate = policy[argumentAlternate]
		}
		raw, _ := arguments[argumentAlternate].(string)
		differ(argumentAlternate, orNil(cmp.Or(want.Alternate, raw)), alternate)
		delete(arguments, argumentAlternate)
		delete(x.Arguments, argumentAlternate)
		v.compareTables("exchange", want.Name, arguments, x.Arguments)
		differ("federation-upstream-set", want.mgmtPolicy().Definition["federation-upstream-set"], policy["federation-upstream-set"])
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !isBrokersOwn(name) && !t.ofLinks(name) {
			v.undeclared("exchange", name)
		}
	}
}

func (v *verifyRun) compareQueues(t Topology) {
	have := byName(v.queues, func(q mgmtQueue) string { return q.Name })
	for _, want := range t.Queues {
		q, ok := have[want.Name]
		delete(have, want.Name)
		if want.External {
			continue
		}
		if !ok {
			v.missing("queue", want.Name)
			continue
		}
		differ := v.of("queue", want.Name)
		differ("type", string(want.Type), q.Type)
		differ("durable", true, q.Durable)
		differ("auto_delete", want.AutoDelete, q.AutoDelete)
		differ("exclusive", false, q.Exclusive)
		v.compareTables("queue", want.Name, want.arguments(), q.Arguments)
		policy := want.mgmtPolicy()
		if len(policy.Definition) == 0 {
			policy.Name = ""
		}
		differ("policy", orNil(policy.Name), orNil(q.Policy))
		differ("operator_policy", nil, orNil(q.OperatorPolicy))
		v.compareTables("queue", want.Name, policy.Definition, q.Effective)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !have[name].Exclusive && !isBrokersOwn(name) && !t.ofLinks(name) {
			v.undeclared("queue", name)
		}
	}
}

// isOthers says whether a binding is to an external entity: its owner may have made it.
func (t Topology) isOthers(b Binding) bool {
	if b.ToExchange {
		x, _ := t.exchange(b.Destination)
		return x.External
	}
	q, _ := t.Queue(b.Destination)
	return q.External
}

func (v *verifyRun) compareBindings(t Topology) {
	exclusive := map[string]bool{}
	for _, q := range v.queues {
		exclusive[q.Name] = q.Exclusive
	}
	have, want := map[bindingKey]Binding{}, map[bindingKey]bool{}
	for _, b := range v.bindings {
		binding := Binding{Source: b.Source, Destination: b.Destination, Key: b.RoutingKey, Match: b.Arguments, ToExchange: b.DestinationType == "exchange"}
		listener := !binding.ToExchange && (exclusive[b.Destination] || isBrokersOwn(b.Destination))
		if b.Source != "" && !listener && !t.ofLinks(b.Destination) { // the default exchange has every queue
			have[binding.identity()] = binding
		}
	}
	for _, b := range t.Bindings {
		key := b.identity()
		if _, found := have[key]; !found && !want[key] {
			v.missing("binding", bindingName(b))
		}
		want[key] = true
	}
	undeclared := map[string]bool{}
	for key, b := range have {
		if !want[key] && !t.isOthers(b) {
			undeclared[bindingName(b)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(undeclared)) {
		v.undeclared("binding", name)
	}
}
