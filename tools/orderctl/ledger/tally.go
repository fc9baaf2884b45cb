package ledger

// Tally counts the results of some orders.
type Tally struct {
	States        map[string]int `json:"states"`
	Captures      map[int]int    `json:"orders_by_captures"`      // number of orders by their number of captures
	Notifications map[int]int    `json:"orders_by_notifications"` // mails and webhooks
	Mails         int            `json:"mails"`
	MailsAgain    int            `json:"mails_again"` // those with the dedupe key of an earlier one
	Webhooks      int            `json:"webhooks"`
	WebhooksAgain int            `json:"webhooks_again"`
	Dead          map[string]int `json:"dead_letters"` // by reason
}

// Tally counts for these orders, and for the poison messages for which counts returns true.
func (b Books) Tally(ids []string, counts func(PoisonMessage) bool) Tally {
	t := Tally{States: map[string]int{}, Captures: map[int]int{}, Notifications: map[int]int{}, Dead: map[string]int{}}
	theirs := map[string]bool{}
	for _, id := range ids {
		o := b.Orders[id]
		t.States[o.Status]++
		t.Captures[len(b.Captures[id])]++
		mails, webhooks := b.expected(id, o)
		before := t.Mails + t.Webhooks
		for _, key := range mails {
			t.Mails += b.Mails[key]
			t.MailsAgain += max(b.Mails[key]-1, 0)
		}
		for _, key := range webhooks {
			t.Webhooks += b.Webhooks[key]
			t.WebhooksAgain += max(b.Webhooks[key]-1, 0)
		}
		t.Notifications[t.Mails+t.Webhooks-before]++
		theirs[id] = true
	}
	for id, letters := range b.Dead {
		if p, ok := b.Poison[id]; ok && counts(p) || theirs[letters[0].Order] {
			t.Dead[letters[0].kindOfReason()]++
		}
	}
	return t
}

// DeadLetters counts the dead letters by queue and reason.
func (b Books) DeadLetters() map[string]int {
	counts := map[string]int{}
	for _, letters := range b.Dead {
		counts[letters[0].Queue+": "+letters[0].kindOfReason()]++
	}
	return counts
}

// Sum returns the sum of the counts.
func Sum[K comparable](counts map[K]int) int {
	n := 0
	for _, count := range counts {
		n += count
	}
	return n
}

// Repeated is the number of copies: of all occurrences but the first ones. Copies are allowed
// for mails, webhooks and events.
func Repeated[K comparable](counts map[K]int) int { return Sum(counts) - len(counts) }
