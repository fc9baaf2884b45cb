package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"image/color"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// report is what a drill found.
type report struct {
	Seed          uint64         `json:"seed"`
	Duration      time.Duration  `json:"duration_ns"`
	Rate          float64        `json:"rate"`
	Accepted      int            `json:"accepted"`
	Became        tally          `json:"became"`
	Webhooks      int            `json:"webhooks"`
	WebhooksAgain int            `json:"webhooks_again"`
	Events        int            `json:"events"`       // that the audit stream has heard
	EventsAgain   int            `json:"events_again"` // of them, published more than once
	Absorbed      int            `json:"absorbed"`     // commands, events and notifications that came again and had no second effect
	Poison        int            `json:"poison_injected"`
	Dead          map[string]int `json:"dead_letters"` // by queue and reason
	Retries       map[string]int `json:"retries_of_customers"`
	Strikes       []struck       `json:"faults"`
	Findings      []finding      `json:"findings"`

	samples []sampled
}

func (d *run) report(c settings, strikes []struck, b books) *report {
	r := &report{
		Seed: c.seed, Duration: c.duration, Rate: c.rate, Accepted: len(b.accepted), Became: b.some(b.accepted),
		Webhooks: sum(b.webhooks), WebhooksAgain: again(b.webhooks), Events: sum(b.events), EventsAgain: again(b.events),
		Poison: len(b.injected), Dead: b.deadBy(), Retries: d.load.retries,
		Findings: b.check(), samples: d.samples,
	}
	for _, odd := range d.load.odd {
		r.Findings = append(r.Findings, finding{"wrong", "a customer got " + odd})
	}
	for i, s := range strikes {
		until := d.samples[len(d.samples)-1].At
		if i+1 < len(strikes) {
			until = strikes[i+1].At
		}
		s = s.measure(d.samples, until)
		s.Became = b.some(b.accepted[s.first : s.first+s.Accepted])
		r.Strikes = append(r.Strikes, s)
	}
	return r
}

// measure looks at the orders from a strike until the next. A pause that lasts
// until then counts too.
func (s struck) measure(samples []sampled, until time.Duration) struck {
	var before, last sampled
	mended := s.At + s.Took
	moved := s.At // when an order came to its end last
	s.Recovery = max(until-mended, 0)
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
			if !recovered && now.At >= mended {
				recovered, s.Recovery = true, now.At-mended
			}
		}
		s.Accepted, s.Ended, s.Moving = now.Accepted-before.Accepted, now.Ended-before.Ended, now.Moving
		last = now
	}
	s.first, s.Pause = before.Accepted, max(s.Pause, until-moved)
	return s
}

func sum[K comparable](counts map[K]int) int {
	n := 0
	for _, count := range counts {
		n += count
	}
	return n
}

func (r *report) passed() bool { return len(r.Findings) == 0 }

// closing is the last line of a run.
func (r *report) closing() string {
	kinds := map[string]int{}
	for _, f := range r.Findings {
		kinds[f.Kind]++
	}
	if r.passed() {
		return fmt.Sprintf("PASSED: seed %d, %d faults, %d orders accepted: 0 lost, 0 doubled, 0 stuck; %d dead letters, all of them the poison injected",
			r.Seed, len(r.Strikes), r.Accepted, sum(r.Dead))
	}
	return fmt.Sprintf("FAILED: seed %d, %d orders accepted: %d lost, %d doubled, %d stuck, %d wrong, %d dead that should live, %d poison missing",
		r.Seed, r.Accepted, kinds["lost"], kinds["doubled"], kinds["stuck"], kinds["wrong"], kinds["dead"], kinds["missing"])
}

// table has a line for each strike.
func (r *report) table() string {
	var out strings.Builder
	out.WriteString("| at | fault | took | orders accepted | came to their end | still moving | longest pause | from mended to the next | at the end | captures per order | mails, of them again |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.Strikes {
		fmt.Fprintf(&out, "| %.0f s | %s | %.1f s | %d | %d | %d | %.1f s | %.1f s | %s | %s | %d, %d |\n", s.At.Seconds(), s.Fault, s.Took.Seconds(), s.Accepted, s.Ended, s.Moving,
			s.Pause.Seconds(), s.Recovery.Seconds(), list(s.Became.States), list(s.Became.Captures), s.Became.Mails, s.Became.MailsAgain)
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
		{"mails, of them again with the same dedupe key", fmt.Sprintf("%d, %d", r.Became.Mails, r.Became.MailsAgain)},
		{"webhooks, of them again with the same dedupe key", fmt.Sprintf("%d, %d", r.Webhooks, r.WebhooksAgain)},
		{"events in the audit stream, of them published again", fmt.Sprintf("%d, %d", r.Events, r.EventsAgain)},
		{"messages that billing and notifier got again, without effect", r.Absorbed},
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

// publish prints the report, and writes it where the repository keeps it.
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
		"{closing}", r.closing(), "{books}", r.books(), "{longest}", r.longest(), "{table}", r.table(),
	).Replace(page)
	return os.WriteFile(filepath.Join(c.out, "reliability"+suffix+".md"), []byte(text), 0o600)
}

// longest is the longest pause of each fault that struck alone.
func (r *report) longest() string {
	pauses := map[string]time.Duration{}
	for _, s := range r.Strikes {
		if !strings.Contains(s.Fault, " + ") {
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

// plot draws accepted and ended orders over time, with a line for each strike.
func (r *report) plot(file string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Orders over time, seed %d: each vertical line is a fault", r.Seed)
	p.X.Label.Text, p.Y.Label.Text = "seconds", "orders"
	var accepted, ended plotter.XYs
	for _, s := range r.samples {
		accepted = append(accepted, plotter.XY{X: s.At.Seconds(), Y: float64(s.Accepted)})
		ended = append(ended, plotter.XY{X: s.At.Seconds(), Y: float64(s.Ended)})
	}
	for _, s := range r.Strikes {
		line, err := plotter.NewLine(plotter.XYs{{X: s.At.Seconds()}, {X: s.At.Seconds(), Y: float64(r.Accepted)}})
		if err != nil {
			return err
		}
		line.Color = color.Gray{Y: 0xc0}
		p.Add(line)
	}
	first, err := plotter.NewLine(accepted)
	if err != nil {
		return err
	}
	second, err := plotter.NewLine(ended)
	if err != nil {
		return err
	}
	second.Color = color.RGBA{R: 0xd0, G: 0x40, A: 0xff}
	p.Add(first, second)
	p.Legend.Add("accepted", first)
	p.Legend.Add("ended", second)
	p.Legend.Left, p.Legend.Top = true, true
	return p.Save(9*vg.Inch, 5*vg.Inch, file)
}

const page = `# What was broken, and what it cost: {what}

Written by "{command}" on {date}: the real containers on one machine with {cpus} CPUs, three replicas of orders, billing and notifier, two of pricing-rpc; seed {seed}, {duration} of {rate} orders a second, a payment deadline of 30 s.

**{closing}**

| books | at the end |
|---|---|
{books}
"Lost" is an order that was answered with 201 and is not in the database, or one whose customer was never told, or whose events the audit stream has not heard; "doubled" has more than one capture or refund at the payment provider, by the provider's own books; "stuck" has not come to its end five minutes after the last fault. Mails, webhooks and events may come twice, with the same key; money may not. A customer who gets no answer, or 503, tries again with the same key.

## The longest pause of each fault alone

How long no order came to its end, from the strike to the next one. It includes the time for which the part was away.

{longest}
## Every strike

First each fault alone, then two at once. The orders accepted are those from this strike to the next; the columns on the right are what became of them when all was over.

{table}
![orders over time](chaos{suffix}.png)

"{command} SEED=n DURATION=10m RATE=40" runs it again; the same seed strikes with the same faults in the same order. The check itself is tested with planted faults: e2e/chaos/ledger_test.go.
`
