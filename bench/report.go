package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// results are the samples of all rounds.
type results struct {
	version string
	rounds  int
	samples map[string]map[string][]sample // by scenario and contender
}

func newResults(version string, rounds int) *results {
	return &results{version: version, rounds: rounds, samples: map[string]map[string][]sample{}}
}

func (r *results) add(s scenario, c contender, got sample) {
	if r.samples[s.name] == nil {
		r.samples[s.name] = map[string][]sample{}
	}
	r.samples[s.name][c.name] = append(r.samples[s.name][c.name], got)
}

// A metric is one number of a sample.
type metric func(sample) float64

func rate(s sample) float64      { return s.rate }
func allocs(s sample) float64    { return s.allocs }
func cpu(s sample) float64       { return s.cpu.Seconds() * 100_000 } // of 100,000 messages
func brokerCPU(s sample) float64 { return s.broker.Seconds() * 100_000 }
func p50(s sample) float64       { return float64(s.p50.Microseconds()) }
func p99(s sample) float64       { return float64(s.p99.Microseconds()) }

// figure is a median with its spread, from the lowest to the highest round.
type figure struct{ median, low, high float64 }

func (r *results) figure(scenario, contender string, of metric) figure {
	var values []float64
	for _, got := range r.samples[scenario][contender] {
		values = append(values, of(got))
	}
	return spread(values)
}

// paired has the ratios of one contender to another in each round. In a round both run within
// seconds of each other, so a slow minute of the machine affects both.
func (r *results) paired(scenario, contender, base string, of metric) figure {
	var ratios []float64
	bases := r.samples[scenario][base]
	for i, got := range r.samples[scenario][contender] {
		ratios = append(ratios, of(got)/of(bases[i]))
	}
	return spread(ratios)
}

func spread(values []float64) figure {
	return figure{quantile(values, 0.5), quantile(values, 0), quantile(values, 1)}
}

// overlaps says whether two spreads overlap: then the difference of the medians is a tie.
func (f figure) overlaps(g figure) bool { return f.low <= g.high && g.low <= f.high }

// A comparison is a ratio for which the project has a target.
type comparison struct {
	name, scenario string
	of             metric
	bound          float64
}

// atMost are the ratios that must not exceed their bound. The others must reach it.
var atMost = []string{"latency_p50", "allocs_publish", "allocs_handle", "client_cpu"}

// verdict describes the target, and whether the median of the rounds' ratios reached it. A result
// that some rounds contradict is called a tie.
func verdict(name string, ratio figure, bound float64) string {
	median := round(ratio.median)
	sign, met := ">=", median >= bound
	if slices.Contains(atMost, name) {
		sign, met = "<=", median <= bound
	}
	words := map[bool]string{true: "reached", false: "MISSED"}[met]
	if ratio.low < bound && bound < ratio.high {
		words += ", a tie"
	}
	return fmt.Sprintf("%s\t%.3f\t%.2f - %.2f\t%s %.2f\t%s\n", name, median, ratio.low, ratio.high, sign, bound, words)
}

var comparisons = []comparison{
	{"publish_1", "publish_1", rate, 1.10},
	{"publish_64", "publish_64", rate, 0.90},
	{"consume", "consume", rate, 1.00},
	{"batch", "batch", rate, 1.30},
	{"rpc_1", "rpc_1", rate, 0.95},
	{"rpc_64", "rpc_64", rate, 0.95},
	{"latency_p50", "latency", p50, 1.10},
	{"allocs_publish", "publish_1", allocs, 1.15},
	{"allocs_handle", "consume", allocs, 1.20},
}

// ratio compares pkg/messaging with the first contender of a scenario.
func (r *results) ratio(c comparison, chosen []scenario) (figure, bool) {
	for _, s := range chosen {
		if s.name == c.scenario {
			return r.paired(s.name, ours, s.contenders[0].name, c.of), true
		}
	}
	return figure{}, false
}

// clientCPU compares the CPU time of this process to publish and handle a message.
func (r *results) clientCPU() figure {
	var ratios []float64
	handled := r.samples["consume"]
	for i, published := range r.samples["publish_1"][ours] {
		own, base := cpu(published), cpu(r.samples["publish_1"]["raw tuned"][i])
		if i < len(handled[ours]) {
			own, base = own+cpu(handled[ours][i]), base+cpu(handled["raw tuned"][i])
		}
		ratios = append(ratios, own/base)
	}
	return spread(ratios)
}

func (r *results) table(chosen []scenario) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // a strings.Builder returns no error
	for _, s := range chosen {
		line("%s: %s\n", s.name, s.what)
		header := "  contender\tmessages/s\tspread\tratio\tallocs\tCPU s/100k\tbroker's"
		if s.name == "latency" {
			header += "\tp50\tspread\tratio\tp99"
		}
		line("%s\n", header)
		base := s.contenders[0].name
		for _, c := range s.contenders {
			f := r.figure(s.name, c.name, rate)
			line("  %s\t%.0f\t%.0f - %.0f\t%s\t%.1f\t%.2f\t%.2f", c.name, f.median, f.low, f.high,
				r.against(s.name, base, c.name, rate), r.figure(s.name, c.name, allocs).median,
				r.figure(s.name, c.name, cpu).median, r.figure(s.name, c.name, brokerCPU).median)
			if s.name == "latency" {
				l := r.figure(s.name, c.name, p50)
				line("\t%s\t%s - %s\t%s\t%s", us(l.median), us(l.low), us(l.high),
					r.against(s.name, base, c.name, p50), us(r.figure(s.name, c.name, p99).median))
			}
			line("\n")
		}
		line("\n")
	}
	_ = w.Flush()
	return out.String()
}

// against is the ratio to the baseline as text, with "tie" if the spreads overlap.
func (r *results) against(scenario, base, contender string, of metric) string {
	b, c := r.figure(scenario, base, of), r.figure(scenario, contender, of)
	text := fmt.Sprintf("%.2f", r.paired(scenario, contender, base, of).median)
	if contender != base && c.overlaps(b) {
		text += " (tie)"
	}
	return text
}

func us(v float64) time.Duration { return time.Duration(v) * time.Microsecond }

// promises is a table of the ratios and their targets.
func (r *results) promises(chosen []scenario) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	line("ratio\tmeasured\tspread\twanted\t\n")
	for _, c := range comparisons {
		if ratio, ok := r.ratio(c, chosen); ok {
			line("%s", verdict(c.name, ratio, c.bound))
		}
	}
	if len(r.samples["publish_1"]) > 0 {
		line("%s", verdict("client_cpu", r.clientCPU(), 1))
	}
	_ = w.Flush()
	return out.String()
}

// write writes the results to their files in a folder.
func (r *results) write(folder string, chosen []scenario) error {
	ratios := map[string]float64{"client_cpu": round(r.clientCPU().median)}
	for _, c := range comparisons {
		ratio, ok := r.ratio(c, chosen)
		if !ok {
			return fmt.Errorf("%s was not measured: run all scenarios to write results", c.scenario)
		}
		ratios[c.name] = round(ratio.median)
	}
	encoded, err := json.MarshalIndent(map[string]any{"ratios": ratios}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "results.json"), append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	if err := r.plot(filepath.Join(folder, "results.png"), chosen); err != nil {
		return err
	}
	text := fmt.Sprintf(page, time.Now().UTC().Format(time.DateOnly), r.rounds, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), r.version, r.promises(chosen), r.table(chosen))
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(text), 0o600)
}

func round(v float64) float64 { return float64(int(v*1000+0.5)) / 1000 }

const page = `# What pkg/messaging costs

Written by ` + "`make bench`" + ` on %s: medians of %d interleaved rounds in one run, %d CPUs, %s/%s, %s, RabbitMQ %s on the same machine with host networking and a volume, one node. Every message is persistent, and has a body of 1 KiB and the properties that a service needs. All measured queues are quorum queues, except the queue of calls.

## Against raw tuned amqp091-go

` + "```text\n%s```" + `

The baseline is careful code written by hand: one channel, at most 1,000 unconfirmed messages with deferred confirms, acknowledgements in multiples of 50. Client CPU is the CPU time to publish one message and handle one. A result that some rounds contradict is called a tie.

## All contenders

Rates are medians of the rounds, and the spread is from the slowest to the fastest round. Ratios compare with the first line: in each round, both ran within seconds of each other, and the table has the median of the rounds' ratios. Allocations are for one message. CPU is the CPU time of this process in seconds for 100,000 messages; the next column is that of the broker (0.00 if its process is not visible). All contenders run in one process, one after another, each with its own connections and new queues. Each round begins with another contender. "Tie" means that at least one round of the contender was as good as one of the baseline.

` + "```text\n%s```" + `

![rates against the baseline](results.png)

The picture compares the medians of the rates; the tables have the medians of the rounds' ratios.

publish_64 has at most 64 unconfirmed messages, since each goroutine waits for its confirm: compare it with "raw tuned, window of 64", and with 256 goroutines. The broker's column shows the reason: small batches need more of its CPU time for each message. The profile of our process is in [profile-publish_64.txt](profile-publish_64.txt); pkg/messaging/DESIGN.md explains where the rest of the time goes.

The RPC servers of both sides reply without confirms, since a caller repeats a call whose reply is lost.

Rates depend on this machine, and change with its disk from minute to minute. Ratios of one run can be compared.
`
