package messaging

import (
	"fmt"
	"strings"
)

// validateDeadLetter refuses a dead-letter route that leads to no queue: dead-lettered
// messages would be lost, or would never leave their queue.
func (t Topology) validateDeadLetter(q Queue) error {
	d := q.DeadLetter
	if d == nil || q.External {
		return nil
	}
	if d.Exchange == "" {
		if _, found := t.Queue(d.Key); !found {
			return q.wrong(fmt.Sprintf("DeadLetter.Key: no queue %q, and the default exchange goes by the queue's name", d.Key))
		}
		return nil
	}
	x, found := t.exchange(d.Exchange)
	switch {
	case !found:
		return q.wrong(fmt.Sprintf("DeadLetter.Exchange: no exchange %q", d.Exchange))
	case x.Internal:
		return q.wrong(fmt.Sprintf("DeadLetter.Exchange: exchange %q is internal, and consumers publish to it too", d.Exchange))
	case !t.reaches(d.Exchange, d.Key, map[string]bool{}):
		return q.wrong(fmt.Sprintf("DeadLetter.Key: no queue gets what exchange %q has with key %q", d.Exchange, d.Key))
	}
	return nil
}

// reaches says whether a message to an exchange with a key is routed to a queue: by bindings
// of the exchange and of exchanges bound to it, or by an alternate exchange where no binding
// matches. The headers of messages are not known here, so a headers exchange counts if it
// has any binding, and so does one of a plugin's kind. An external exchange always counts.
func (t Topology) reaches(exchange, key string, seen map[string]bool) bool {
	x, found := t.exchange(exchange)
	if !found || seen[exchange] {
		return false
	}
	if x.External {
		return true
	}
	seen[exchange] = true
	routed := false
	for _, b := range t.Bindings {
		if b.Source != exchange || !x.Kind.routes(b.Key, key) {
			continue
		}
		if !b.ToExchange || t.reaches(b.Destination, key, seen) {
			return true
		}
		routed = true // then the alternate exchange does not get it
	}
	return !routed && t.reaches(x.Alternate, key, seen)
}

// routes says whether an exchange of this kind may route a key by a binding.
func (k ExchangeKind) routes(binding, key string) bool {
	switch k {
	case Direct:
		return binding == key
	case Topic:
		return topicMatches(words(binding), words(key))
	default: // each binding gets all, or what its headers say, or its share
		return true
	}
}

// words splits a topic into its words. An empty topic has none.
func words(topic string) []string {
	if topic == "" {
		return nil
	}
	return strings.Split(topic, ".")
}

// topicMatches says whether a topic exchange routes a key by a pattern.
func topicMatches(pattern, key []string) bool {
	taken := make([]bool, len(key)+1) // by what of the pattern was looked at: so many words
	taken[0] = true
	for _, p := range pattern {
		next := make([]bool, len(key)+1)
		for i := range next {
			if p == "#" {
				next[i] = taken[i] || i > 0 && next[i-1]
			} else if i > 0 {
				next[i] = taken[i-1] && (p == "*" || p == key[i-1])
			}
		}
		taken = next
	}
	return taken[len(key)]
}
