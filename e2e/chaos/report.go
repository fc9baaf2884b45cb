package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what a drill found.
type report struct {
	Seed        uint64         `json:"seed"`
	Duration    time.Duration  `json:"duration_ns"`
	Rate        float64        `json:"rate"`
	Faults      int            `json:"faults_there_are"`
	Accepted    int            `json:"accepted"`
	Became      tally          `json:"became"`
	Events      int            `json:"events"`       // that the audit stream has heard
	EventsAgain int            `json:"events_again"` // of them, published more than once
	Absorbed    int            `json:"absorbed"`     // messages that came again, or too late, and had no effect
	Poison      int            `json:"poison_injected"`
	Dead        map[string]int `json:"dead_letters"` // by queue and reason
	Retries     map[string]int `json:"retries_of_customers"`
	Strikes     []struck       `json:"faults"`
	Heard       []string       `json:"not_ready"` // what services said of why they were not ready
	Findings    []finding      `json:"findings"`

	samples []sampled
}

// report puts together what there is to say. unread is why the books could not be
// read; then what they seem to say is worth nothing.
func (d *run) report(ctx context.Context, c settings, strikes []struck, b books, unread error) *report {
	r := &report{
		Seed: c.seed, Duration: c.duration, Rate: c.rate, Faults: len(c.all()), Accepted: len(b.accepted), Became: b.some(b.accepted, func(poison) bool { return true }),
		Events: sum(b.events), EventsAgain: again(b.events), Poison: len(b.injected) + len(b.silent), Dead: b.deadBy(), Retries: d.load.retries, Heard: d.heard,
		Findings: d.findings, samples: d.samples,
	}
	if unread != nil {
		r.Findings = append(r.Findings, finding{"drill", "the books cannot be read: " + unread.Error()})
	} else {
		r.Findings = append(r.Findings, b.check()...)
	}
	absorbed, err := d.absorbed(ctx)
	if err != nil {
		r.Findings = append(r.Findings, finding{"drill", err.Error()})
	}
	for _, odd := range d.load.odd {
		r.Findings = append(r.Findings, finding{"wrong", "a customer got " + odd})
	}
	r.Absorbed = len(absorbed)
	for i, s := range strikes {
		until, last := d.loaded, i+1 == len(strikes)
		if !last {
			until = strikes[i+1].At
		}
		s = s.measure(d.samples, until)
		isThen := func(at time.Duration) bool { return at >= s.At && (last || at < until) }
		s.Became = b.some(b.accepted[s.first:s.first+s.Accepted], func(p poison) bool { return isThen(p.at) })
		for _, at := range absorbed {
			if isThen(at.Sub(d.started)) {
				s.Absorbed++
			}
		}
		if s.slow() {
			r.Findings = append(r.Findings, finding{"slow", fmt.Sprintf("%s: no order came to its end for %.1f s after the broker was ready", s.Fault, s.Recovery.Seconds())})
		}
		r.Strikes = append(r.Strikes, s)
	}
	return r
}

func (r *report) passed() bool { return len(r.Findings) == 0 }

// closing is the last line of a run. It names the first of each kind.
func (r *report) closing() string {
	alone := map[string]bool{}
	together := 0
	for _, s := range r.Strikes {
		switch {
		case !s.Alone:
			together++
		case s.Trouble == "":
			alone[s.Fault] = true
		}
	}
	run := fmt.Sprintf("seed %d, %d of %d faults alone and %d pairs, %d orders accepted: ", r.Seed, len(alone), r.Faults, together, r.Accepted)
	if r.passed() {
		return fmt.Sprintf("PASSED: %s0 lost, 0 doubled, 0 stuck; %d dead letters, all of them the poison that was injected", run, sum(r.Dead))
	}
	var counts []string
	for _, k := range kinds {
		n, first := 0, ""
		for _, f := range r.Findings {
			if f.Kind != k.kind {
				continue
			}
			if n++; n == 1 {
				first = " (" + f.What + ")"
			}
		}
		counts = append(counts, fmt.Sprintf("%d %s%s", n, k.counted, first))
	}
	return "FAILED: " + run + strings.Join(counts, ", ")
}

// table has a line for each strike.
func (r *report) table() string {
	var out strings.Builder
	out.WriteString("| at | fault | took | orders accepted | came to their end | still moving | longest pause | from mended to the next | at the end | captures per order | notifications per order | mails, webhooks again | absorbed | dead letters |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.Strikes {
		fault := s.Fault
		if s.Trouble != "" {
			fault += " (did not take, and was mended)"
		}
		fmt.Fprintf(&out, "| %.0f s | %s | %.1f s | %d | %d | %d | %.1f s | %.1f s | %s | %s | %s | %d, %d | %d | %s |\n", s.At.Seconds(), fault, s.Took.Seconds(), s.Accepted, s.Ended, s.Moving,
			s.Pause.Seconds(), s.Recovery.Seconds(), list(s.Became.States), list(s.Became.Captures), list(s.Became.Notifications), s.Became.MailsAgain, s.Became.WebhooksAgain, s.Absorbed, list(s.Became.Dead))
	}
	return out.String()
}

// books are the sums, a line each.
func (r *report) books() string {
	var out strings.Builder
	for _, line := range []struct {
		what string
		is   any
	}{
		{"orders accepted", r.Accepted},
		{"their last states", list(r.Became.States)},
		{"captures per order, by the provider's books", list(r.Became.Captures)},
		{"notifications per order, mails and webhooks", list(r.Became.Notifications)},
		{"mails, of them again with the same dedupe key", fmt.Sprintf("%d, %d", r.Became.Mails, r.Became.MailsAgain)},
		{"webhooks, of them again with the same dedupe key", fmt.Sprintf("%d, %d", r.Became.Webhooks, r.Became.WebhooksAgain)},
		{"events in the audit stream, of them published again", fmt.Sprintf("%d, %d", r.Events, r.EventsAgain)},
		{"messages that came again, or too late, without effect", r.Absorbed},
		{"poison injected", r.Poison},
		{"dead letters, by queue and reason", list(r.Dead)},
		{"answers after which customers tried again", list(r.Retries)},
	} {
		fmt.Fprintf(&out, "| %s | %v |\n", line.what, line.is)
	}
	return out.String()
}

// list writes counts for people, in the order of their names.
func list[K cmp.Ordered](counts map[K]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%v: %d", name, counts[name]))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// publish prints the report, and writes it to a folder.
func (r *report) publish(c settings) error {
	fmt.Print(r.table())
	fmt.Print(r.books())
	for i, f := range r.Findings {
		if i == 20 {
			fmt.Printf("... and %d more\n", len(r.Findings)-i)
			break
		}
		fmt.Println(f)
	}
	if c.out == "" {
		return nil
	}
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	suffix, what, command := "", "one broker", "make chaos"
	if c.cluster {
		suffix, what, command = "-cluster", "a cluster of three brokers", "make chaos WITH=cluster"
	}
	if err := os.WriteFile(filepath.Join(c.out, "chaos"+suffix+".json"), append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	if err := r.plot(filepath.Join(c.out, "chaos"+suffix+".png")); err != nil {
		return err
	}
	text := strings.NewReplacer(
		"{date}", time.Now().UTC().Format(time.DateOnly), "{cpus}", strconv.Itoa(runtime.NumCPU()), "{what}", what, "{command}", command, "{suffix}", suffix,
		"{seed}", strconv.FormatUint(r.Seed, 10), "{duration}", r.Duration.String(), "{rate}", strconv.FormatFloat(r.Rate, 'f', -1, 64),
		"{closing}", r.closing(), "{books}", r.books(), "{longest}", r.longest(), "{heard}", r.heard(), "{table}", r.table(),
	).Replace(page)
	file := filepath.Join(c.out, "reliability"+suffix+".md")
	say("the report is in %s", file)
	return os.WriteFile(file, []byte(text), 0o600)
}

// heard is a section for what services said of why they were not ready.
func (r *report) heard() string {
	if len(r.Heard) == 0 {
		return ""
	}
	return "\n## What kept services from being ready\n\nAs they said themselves, at the beginning and at the end of an outage.\n\n- " + strings.Join(r.Heard, "\n- ") + "\n"
}

// longest is the longest pause of each fault that struck alone.
func (r *report) longest() string {
	pauses := map[string]time.Duration{}
	for _, s := range r.Strikes {
		if s.Alone && s.Trouble == "" && !s.beside() { // others struck meanwhile
			pauses[s.Fault] = max(pauses[s.Fault], s.Pause)
		}
	}
	var names []string
	for name := range pauses {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(pauses[b] - pauses[a]) })
	var out strings.Builder
	for _, name := range names {
		fmt.Fprintf(&out, "- %s: %.1f s\n", name, pauses[name].Seconds())
	}
	return out.String()
}
