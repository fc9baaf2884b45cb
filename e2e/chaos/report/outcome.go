package report

import (
	"time"

	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/tools/orderctl/ledger"
)

// Outcome is what one fault, or two at once, did. The times are since the beginning of the
// run.
type Outcome struct {
	Fault    string        `json:"fault"`
	Alone    bool          `json:"alone"`
	Trouble  string        `json:"trouble,omitempty"` // why it did not work
	At       time.Duration `json:"at_ns"`
	Took     time.Duration `json:"took_ns"`
	Repaired time.Duration `json:"mended_ns"` // when the broker was ready, or all was over
	load.Effect
	Absorbed int          `json:"absorbed"` // messages that came again, or too late, until the next fault
	Became   ledger.Tally `json:"became"`   // what became of the orders that were accepted until the next fault

	Beside     bool `json:"-"` // other faults went on meanwhile
	BrokerAway bool `json:"-"` // nothing but the broker was away
}

// slow says that the broker was ready, and work did not go on soon.
func (o Outcome) slow() bool {
	return o.Alone && o.Trouble == "" && o.BrokerAway && o.Recovery > load.RecoverWithin
}
