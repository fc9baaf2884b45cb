package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// findingsPrinted is how many findings Print prints.
const findingsPrinted = 20

// Print prints the tables and the first findings.
func (r *Report) Print(w io.Writer) error {
	text := r.outcomes() + r.totals()
	for i, f := range r.Findings {
		if i == findingsPrinted {
			text += fmt.Sprintf("... and %d more\n", len(r.Findings)-i)
			break
		}
		text += f.Error() + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// Write writes chaos.json, chaos.png and reliability.md to a folder, or with a cluster
// files with its name, and gives the name of the page.
func (r *Report) Write(folder string) (page string, err error) {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	suffix, what, command := "", "one broker", "make chaos"
	if r.cluster {
		suffix, what, command = "-cluster", "a cluster of three brokers", "make chaos WITH=cluster"
	}
	if err := os.WriteFile(filepath.Join(folder, "chaos"+suffix+".json"), append(encoded, '\n'), 0o600); err != nil {
		return "", err
	}
	if err := r.plot(filepath.Join(folder, "chaos"+suffix+".png")); err != nil {
		return "", err
	}
	text := strings.NewReplacer(
		"{date}", time.Now().UTC().Format(time.DateOnly), "{cpus}", strconv.Itoa(runtime.NumCPU()), "{what}", what, "{command}", command, "{suffix}", suffix,
		"{seed}", strconv.FormatUint(r.Seed, 10), "{duration}", r.Duration.String(), "{rate}", strconv.FormatFloat(r.Rate, 'f', -1, 64),
		"{lastLine}", r.LastLine(), "{totals}", r.totals(), "{pauses}", r.pauses(), "{notReady}", r.notReady(), "{outcomes}", r.outcomes(),
	).Replace(pageTemplate)
	page = filepath.Join(folder, "reliability"+suffix+".md")
	return page, os.WriteFile(page, []byte(text), 0o600)
}

// outcomes is a table with a line for each fault.
func (r *Report) outcomes() string {
	var out strings.Builder
	out.WriteString("| at | fault | took | orders accepted | came to their end | still moving | longest pause | from repaired to the next | at the end | captures per order | notifications per order | mails, webhooks again | absorbed | dead letters |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, o := range r.Outcomes {
		fault := o.Fault
		if o.Trouble != "" {
			fault += " (did not work, and was repaired)"
		}
		fmt.Fprintf(&out, "| %.0f s | %s | %.1f s | %d | %d | %d | %.1f s | %.1f s | %s | %s | %s | %d, %d | %d | %s |\n", o.At.Seconds(), fault, o.Took.Seconds(), o.Accepted, o.Ended, o.Moving,
			o.Pause.Seconds(), o.Recovery.Seconds(), list(o.Became.States), list(o.Became.Captures), list(o.Became.Notifications), o.Became.MailsAgain, o.Became.WebhooksAgain, o.Absorbed, list(o.Became.Dead))
	}
	return out.String()
}

// totals are the lines of a table with the sums of the run.
func (r *Report) totals() string {
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

// notReady is a section with what services said of why they were not ready.
func (r *Report) notReady() string {
	if len(r.NotReady) == 0 {
		return ""
	}
	return "\n## What kept services from being ready\n\nAs they said themselves, at the beginning and at the end of an outage.\n\n- " + strings.Join(r.NotReady, "\n- ") + "\n"
}

// pauses is a list with the longest pause of each fault that went on alone.
func (r *Report) pauses() string {
	pauses := map[string]time.Duration{}
	for _, o := range r.Outcomes {
		if o.Alone && o.Trouble == "" && !o.Beside {
			pauses[o.Fault] = max(pauses[o.Fault], o.Pause)
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
