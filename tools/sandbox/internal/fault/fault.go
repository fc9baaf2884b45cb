// Package fault has the simulated faults of the outside systems, as switches that are turned on
// and off while the sandbox runs. They are kept in memory, so a restart turns all of them off.
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

// The systems that can have a fault.
const (
	Provider = "provider"
	Mail     = "mail"
	Webhook  = "webhook"
)

// maxSlow is the longest delay of a fault.
const maxSlow = 30 * time.Second

// ErrUnknown says that a switch does not exist.
var ErrUnknown = errors.New("there is no such fault")

// InvalidError says which field of a switch is wrong.
type InvalidError struct{ Field, Detail string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Detail }

// Fault is a switch that is on.
type Fault struct {
	// Name is the system and the fault, such as "provider.refuse".
	Name string `json:"name"`
	// Value is the status of a refusal, or the delay.
	Value string `json:"value,omitempty"`
	// RetryAfter is sent unchanged in the header Retry-After: seconds, or a date.
	RetryAfter string `json:"retry_after,omitempty"`
}

// State is the combination of a system's faults.
type State struct {
	// Down closes the connection without an answer.
	Down bool
	// Slow delays each answer.
	Slow time.Duration
	// Refuse is the status of every answer, with RetryAfter; 0 means no such fault.
	Refuse     int
	RetryAfter string
	// AcceptBroken carries out the request, and sends only half of the answer.
	AcceptBroken bool
}

// kind is a kind of switch: the check of its value, and its effect on the state.
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

// Names returns the names of all switches.
func Names() []string { return slices.Sorted(maps.Keys(kinds)) }

// Switches has the switches that are on. In the zero value, all are off. Safe for concurrent use.
type Switches struct {
	mu sync.Mutex
	on map[string]Fault
}

// Set turns a switch on, or changes its value. Errors: [ErrUnknown], *[InvalidError].
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

// List returns the switches that are on, sorted by name.
func (s *Switches) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Fault{}
	for _, name := range slices.Sorted(maps.Keys(s.on)) {
		list = append(list, s.on[name])
	}
	return list
}

// Of returns the current state of a system.
func (s *Switches) Of(system string) (state State) {
	for _, f := range s.List() {
		if strings.HasPrefix(f.Name, system+".") {
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
		return &InvalidError{"value", "this fault has no value"}
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

// status checks an HTTP status of at least lowest.
func status(lowest int) func(f Fault) error {
	return func(f Fault) error {
		if n, err := strconv.Atoi(f.Value); err != nil || n < lowest || n > 599 {
			return &InvalidError{"value", fmt.Sprintf("must be a status from %d to 599", lowest)}
		}
		_, notSeconds := strconv.ParseUint(f.RetryAfter, 10, 64)
		_, notDate := http.ParseTime(f.RetryAfter)
		if f.RetryAfter != "" && notSeconds != nil && notDate != nil {
			return &InvalidError{"retry_after", "must be whole seconds, or a date in the format of HTTP"}
		}
		return nil
	}
}

// reply checks an SMTP reply code, which has no Retry-After.
func reply(f Fault) error {
	if err := status(400)(Fault{Value: f.Value}); err != nil {
		return err
	}
	return noRetryAfter(f)
}

func noRetryAfter(f Fault) error {
	if f.RetryAfter != "" {
		return &InvalidError{"retry_after", "is only for a refusal by HTTP"}
	}
	return nil
}
