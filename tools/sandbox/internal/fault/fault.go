// Package fault is what goes wrong in the outside world on purpose: switches that are
// turned on and off while it runs. They are kept in memory, so that a restart turns all
// of them off.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Who can have a fault.
const (
	Provider = "provider"
	Mail     = "mail"
	Webhook  = "webhook"
)

// maxSlow bounds how slow somebody can be made.
const maxSlow = 30 * time.Second

// ErrUnknown says that there is no such switch.
var ErrUnknown = errors.New("there is no such fault")

// InvalidError says which field of a switch is wrong.
type InvalidError struct{ Field, Detail string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Detail }

// Fault is a switch that is on.
type Fault struct {
	// Name is who has it and which, such as "provider.refuse".
	Name string `json:"name"`
	// Value is the status of a refusal, or how slow.
	Value string `json:"value,omitempty"`
	// RetryAfter goes into the header of that name, as it is: seconds, or a date.
	RetryAfter string `json:"retry_after,omitempty"`
}

// State is what is wrong with somebody.
type State struct {
	// Down drops the connection without an answer.
	Down bool
	// Slow delays each answer.
	Slow time.Duration
	// Refuse is the status of every answer, 0 for none; RetryAfter goes with it.
	Refuse     int
	RetryAfter string
	// AcceptBroken does what is asked for, and gives an answer that is cut off.
	AcceptBroken bool
}

// kind is one switch: how its value is checked, and what it does.
type kind struct {
	check func(f Fault) error
	apply func(s *State, f Fault)
}

var kinds = map[string]kind{
	"provider.down":          {plain, down},
	"provider.slow":          {duration, slow},
	"provider.refuse":        {status(300), refuse},
	"provider.accept-broken": {plain, acceptBroken},
	"webhook.down":           {plain, down},
	"webhook.slow":           {duration, slow},
	"webhook.refuse":         {status(300), refuse},
	"mail.down":              {plain, down},
	"mail.slow":              {duration, slow},
	"mail.refuse":            {reply, refuse},
}

// Names are all switches that there are.
func Names() []string { return slices.Sorted(maps.Keys(kinds)) }

// Switches are the switches that are on. The zero value has none. Safe for concurrent use.
type Switches struct {
	mu sync.Mutex
	on map[string]Fault
}

// Set turns a switch on, or gives it another value. Errors: [ErrUnknown], *[InvalidError].
func (s *Switches) Set(f Fault) error {
	k, known := kinds[f.Name]
	if !known {
		return fmt.Errorf("%w: %q", ErrUnknown, f.Name)
	}
	if err := k.check(f); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on = map[string]Fault{}
	}
	s.on[f.Name] = f
	return nil
}

// Clear turns a switch off, if it is on. Error: [ErrUnknown].
func (s *Switches) Clear(name string) error {
	if _, known := kinds[name]; !known {
		return fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.on, name)
	return nil
}

// ClearAll turns every switch off.
func (s *Switches) ClearAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.on)
}

// List gives the switches that are on, by name.
func (s *Switches) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Fault{}
	for _, name := range slices.Sorted(maps.Keys(s.on)) {
		list = append(list, s.on[name])
	}
	return list
}

// Of gives what is wrong with somebody now.
func (s *Switches) Of(who string) (state State) {
	for _, f := range s.List() {
		if strings.HasPrefix(f.Name, who+".") {
			kinds[f.Name].apply(&state, f)
		}
	}
	return state
}

func down(s *State, _ Fault)         { s.Down = true }
func acceptBroken(s *State, _ Fault) { s.AcceptBroken = true }
func slow(s *State, f Fault)         { s.Slow, _ = time.ParseDuration(f.Value) }
func refuse(s *State, f Fault)       { s.Refuse, _ = strconv.Atoi(f.Value); s.RetryAfter = f.RetryAfter }

func plain(f Fault) error {
	if f.Value != "" {
		return &InvalidError{"value", "this fault has none"}
	}
	return noRetryAfter(f)
}

func duration(f Fault) error {
	d, err := time.ParseDuration(f.Value)
	if err != nil || d <= 0 || d > maxSlow {
		return &InvalidError{"value", "must be a duration above zero and at most " + maxSlow.String() + ", such as 2s"}
	}
	return noRetryAfter(f)
}

// status is an HTTP status from the lowest on.
func status(lowest int) func(f Fault) error {
	return func(f Fault) error {
		if n, err := strconv.Atoi(f.Value); err != nil || n < lowest || n > 599 {
			return &InvalidError{"value", fmt.Sprintf("must be a status from %d to 599", lowest)}
		}
		_, notSeconds := strconv.ParseUint(f.RetryAfter, 10, 64)
		_, notDate := http.ParseTime(f.RetryAfter)
		if f.RetryAfter != "" && notSeconds != nil && notDate != nil {
			return &InvalidError{"retry_after", "must be whole seconds, or a date as HTTP writes it"}
		}
		return nil
	}
}

// reply is an SMTP reply code, which carries no Retry-After.
func reply(f Fault) error {
	if err := status(400)(Fault{Value: f.Value}); err != nil {
		return err
	}
	return noRetryAfter(f)
}

func noRetryAfter(f Fault) error {
	if f.RetryAfter != "" {
		return &InvalidError{"retry_after", "goes with a refusal over HTTP only"}
	}
	return nil
}
