// Package report puts together what a chaos drill has seen: a JSON file, a page for people
// and a picture.
package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/tools/orderctl/ledger"
)

// Run is what a drill has seen.
type Run struct {
	Seed     uint64
	Duration time.Duration
	Rate     float64
	Faults   int // how many there are
	Cluster  bool

	Started   time.Time
	LoadEnded time.Duration // when the last customer came, since Started
	Outcomes  []Outcome     // in order; Report measures their effects
	Samples   []load.Sample
	Findings  []ledger.Finding
	NotReady  []string // what services said of why they were not ready

	Books    ledger.Books
	BooksErr error // why the books could not be read; then they are not checked
	// Absorbed are the times at which services logged that a message had no effect.
	Absorbed    []time.Time
	AbsorbedErr error

	Retries    map[string]int // of customers, by the answer that they got
	Unexpected []string       // answers that no customer should get
}

// Report is what is kept of a run.
type Report struct {
	Seed        uint64           `json:"seed"`
	Duration    time.Duration    `json:"duration_ns"`
	Rate        float64          `json:"rate"`
	Faults      int              `json:"faults_there_are"`
	Accepted    int              `json:"accepted"`
	Became      ledger.Tally     `json:"became"`
	Events      int              `json:"events"`       // in the audit stream
	EventsAgain int              `json:"events_again"` // of them, published more than once
	Absorbed    int              `json:"absorbed"`     // messages that came again, or too late, and had no effect
	Poison      int              `json:"poison_injected"`
	Dead        map[string]int   `json:"dead_letters"` // by queue and reason
	Retries     map[string]int   `json:"retries_of_customers"`
	Outcomes    []Outcome        `json:"faults"`
	NotReady    []string         `json:"not_ready"` // what services said of why they were not ready
	Findings    []ledger.Finding `json:"findings"`

	cluster bool
	samples []load.Sample
}

// New measures the effect of each fault, checks the books, and puts all together.
func New(run Run) *Report {
	b := run.Books
	r := &Report{
		Seed: run.Seed, Duration: run.Duration, Rate: run.Rate, Faults: run.Faults,
		Accepted: len(b.Accepted), Became: b.Tally(b.Accepted, func(ledger.PoisonMessage) bool { return true }),
		Events: ledger.Sum(b.Events), EventsAgain: ledger.Repeated(b.Events), Absorbed: len(run.Absorbed),
		Poison: len(b.Poison) + len(b.Unanswered), Dead: b.DeadLetters(), Retries: run.Retries,
		NotReady: run.NotReady, Findings: slices.Clone(run.Findings), cluster: run.Cluster, samples: run.Samples,
	}
	if run.BooksErr != nil {
		r.found(ledger.Drill, "the books cannot be read: %v", run.BooksErr)
	} else {
		r.Findings = append(r.Findings, b.Check()...)
	}
	if run.AbsorbedErr != nil {
		r.found(ledger.Drill, "%v", run.AbsorbedErr)
	}
	for _, answer := range run.Unexpected {
		r.found(ledger.Wrong, "a customer got %s", answer)
	}
	for i := range run.Outcomes {
		o := run.measure(i)
		if o.slow() {
			r.found(ledger.Slow, "%s: no order came to its end for %.1f s after the broker was ready", o.Fault, o.Recovery.Seconds())
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r
}

func (r *Report) found(kind, format string, args ...any) {
	r.Findings = append(r.Findings, ledger.Finding{Kind: kind, What: fmt.Sprintf(format, args...)})
}

// measure gives the i-th outcome with what happened until the next.
func (run Run) measure(i int) Outcome {
	o, until, last := run.Outcomes[i], run.LoadEnded, i+1 == len(run.Outcomes)
	if !last {
		until = run.Outcomes[i+1].At
	}
	o.Effect = load.Measure(run.Samples, o.At, o.Repaired, until)
	during := func(at time.Duration) bool { return at >= o.At && (last || at < until) }
	o.Became = run.Books.Tally(run.Books.Accepted[o.First:o.First+o.Accepted], func(p ledger.PoisonMessage) bool { return during(p.At) })
	for _, at := range run.Absorbed {
		if during(at.Sub(run.Started)) {
			o.Absorbed++
		}
	}
	return o
}

// Passed says that nothing was found.
func (r *Report) Passed() bool { return len(r.Findings) == 0 }

// counted are the kinds of findings, and what they are called in the last line.
var counted = []struct{ kind, name string }{
	{ledger.Lost, "lost"}, {ledger.Doubled, "doubled"}, {ledger.Stuck, "stuck"}, {ledger.Wrong, "wrong"}, {ledger.Dead, "dead that should live"},
	{ledger.Missing, "poison missing"}, {ledger.Slow, "slow to recover"}, {ledger.Drill, "troubles of the drill"},
}

// LastLine says whether the run has passed, and how many findings there are of each kind,
// with the first of each.
func (r *Report) LastLine() string {
	alone := map[string]bool{}
	together := 0
	for _, o := range r.Outcomes {
		switch {
		case !o.Alone:
			together++
		case o.Trouble == "":
			alone[o.Fault] = true
		}
	}
	run := fmt.Sprintf("seed %d, %d of %d faults alone and %d pairs, %d orders accepted: ", r.Seed, len(alone), r.Faults, together, r.Accepted)
	if r.Passed() {
		return fmt.Sprintf("PASSED: %s0 lost, 0 doubled, 0 stuck; %d dead letters, all of them the poison that was injected", run, ledger.Sum(r.Dead))
	}
	var counts []string
	for _, k := range counted {
		n, first := 0, ""
		for _, f := range r.Findings {
			if f.Kind != k.kind {
				continue
			}
			if n++; n == 1 {
				first = " (" + f.What + ")"
			}
		}
		counts = append(counts, fmt.Sprintf("%d %s%s", n, k.name, first))
	}
	return "FAILED: " + run + strings.Join(counts, ", ")
}
