package main

import (
	"slices"
	"time"
)

// struck is what one fault, or several at once, did.
type struck struct {
	Fault    string        `json:"fault"`
	Alone    bool          `json:"alone"`
	Trouble  string        `json:"trouble,omitempty"` // why it did not take
	At       time.Duration `json:"at_ns"`
	Took     time.Duration `json:"took_ns"`
	Mended   time.Duration `json:"mended_ns"`        // when the broker was ready, or all was over
	Accepted int           `json:"accepted"`         // orders, until the next fault
	Ended    int           `json:"ended"`            // meanwhile
	Moving   int           `json:"moving"`           // when the next fault strikes
	Pause    time.Duration `json:"longest_pause_ns"` // without an order coming to its end
	Recovery time.Duration `json:"recovery_ns"`      // from mended to the next order that ended
	Absorbed int           `json:"absorbed"`         // messages that came again, or too late, until the next fault
	Became   tally         `json:"became"`           // what these orders were at the end

	first int // of the accepted orders
}

// measure looks at the orders from a strike until the next. A pause that lasts
// until then counts too.
func (s struck) measure(samples []sampled, until time.Duration) struck {
	var before, last sampled
	moved := s.At // when an order came to its end last
	s.Recovery = max(until-s.Mended, 0)
	recovered := false
	for _, now := range samples {
		if now.At > until {
			break
		}
		if now.At < s.At {
			before, last, s.Moving = now, now, now.Moving
			continue
		}
		if now.Ended > last.Ended {
			s.Pause = max(s.Pause, now.At-moved)
			moved = now.At
			if !recovered && now.At >= s.Mended {
				recovered, s.Recovery = true, now.At-s.Mended
			}
		}
		s.Accepted, s.Ended, s.Moving = now.Accepted-before.Accepted, now.Ended-before.Ended, now.Moving
		last = now
	}
	s.first, s.Pause = before.Accepted, max(s.Pause, until-moved)
	return s
}

// beside says that others struck meanwhile.
func (s struck) beside() bool { return slices.Contains(besides, s.Fault) }

// slow says that the broker was ready, and work did not go on soon.
func (s struck) slow() bool {
	return s.Alone && s.Trouble == "" && slices.Contains(brokerAway, s.Fault) && s.Recovery > goesOn
}
