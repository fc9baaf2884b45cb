package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// firstStrike lets the system work in peace for a moment.
	firstStrike = 5 * time.Second
	// longest is what a run may take: scripts/lib.sh takes for left over what is older.
	longest = 12 * time.Hour
	// lateAlone and lateTogether are how long after the end a strike may go on: a slow
	// machine gets time for every fault alone, and fewer at once.
	lateAlone    = 3 * time.Minute
	lateTogether = 30 * time.Second
	// breath is the least time between two strikes: it shows whether work goes on.
	breath = goesOn + 500*time.Millisecond
)

// A script says what happens when, counted from the first order.
type strike struct {
	at     time.Duration
	faults []fault
}

// At is a line of a script. It waits for the line before, if that takes longer.
func At(at time.Duration, faults ...fault) strike { return strike{at, faults} }

func (s strike) alone() bool { return len(s.faults) == 1 }

func (s strike) beside() bool { return s.alone() && s.faults[0].beside() }

func (s strike) name() string {
	var names []string
	for _, f := range s.faults {
		names = append(names, f.name)
	}
	return strings.Join(names, " + ")
}

// takes is about how long a strike goes on.
func (s strike) takes() (longest time.Duration) {
	for _, f := range s.faults {
		longest = max(longest, f.takes)
	}
	return longest
}

// all are the faults that there are for a system.
func (c settings) all() []fault {
	if c.cluster {
		return clusterFaults
	}
	return faults
}

// choose picks the faults of a run, and how long it takes if nobody has said that.
func (c *settings) choose() ([]fault, error) {
	pick, err := regexp.Compile(c.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	chosen := slices.Clone(c.all())
	if c.only != "" {
		chosen = append(chosen, rarely...)
	}
	chosen = slices.DeleteFunc(chosen, func(f fault) bool { return !pick.MatchString(f.name) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only: no fault is called %q", c.only)
	}
	if c.duration == 0 {
		var beside time.Duration
		for _, f := range chosen {
			if f.beside() {
				beside = max(beside, f.takes)
			} else {
				c.duration += f.takes + 6*time.Second
			}
		}
		c.duration = (max(c.duration, beside)*9/8 + time.Minute).Round(time.Minute) // some take longer
	}
	if c.duration > longest {
		return nil, fmt.Errorf("-duration: at most %s", longest)
	}
	return chosen, nil
}

// seeded writes a script: each fault alone, in the seed's order, then two at once
// until time is over.
func seeded(c *settings) ([]strike, error) {
	chosen, err := c.choose()
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(c.seed, 1))
	random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	slices.SortStableFunc(chosen, func(a, b fault) int { return a.turn() - b.turn() })
	var script []strike
	at := firstStrike
	add := func(faults ...fault) {
		line := At(at, faults...)
		script = append(script, line)
		if !line.beside() {
			at += line.takes()
		}
		at += 3*time.Second + time.Duration(random.IntN(2000))*time.Millisecond
	}
	for _, f := range chosen {
		if at < c.duration {
			add(f)
		}
	}
	short := slices.DeleteFunc(chosen, fault.long)
	for n := 0; at < c.duration && len(short) > 0; n++ {
		one := short[n%len(short)]
		if len(short) == 1 {
			add(one)
			continue
		}
		add(one, short[(n+1+random.IntN(len(short)-1))%len(short)])
	}
	return script, nil
}

// follow carries a script out, and leaves out what would go on for too long after
// the end, since the lines before took longer than they should.
func (d *run) follow(ctx context.Context, script []strike, end time.Duration) []struck {
	var strikes []*struck
	var beside sync.WaitGroup
	for _, line := range script {
		if len(strikes) > 0 && wait(ctx, breath) != nil || wait(ctx, time.Until(d.started.Add(line.at))) != nil {
			break
		}
		switch {
		case line.beside():
			hit := &struck{Fault: line.name(), Alone: true, At: time.Since(d.started), Mended: time.Since(d.started)}
			strikes = append(strikes, hit)
			beside.Go(func() { d.besides(ctx, line.faults[0], hit) })
		case d.noTime(line, end):
		default:
			strikes = append(strikes, d.insistOn(ctx, line)...)
		}
	}
	beside.Wait()
	var out []struck
	for _, hit := range strikes {
		out = append(out, *hit)
	}
	return out
}

// noTime says that a line would go on for too long after the end.
func (d *run) noTime(line strike, end time.Duration) bool {
	latest := end + lateTogether
	if line.alone() {
		latest = end + lateAlone
	}
	if time.Since(d.started)+line.takes() <= latest {
		return false
	}
	say("%s: no time is left for: %s", d.clock(), line.name())
	if line.alone() {
		d.found("drill", "%s: no time was left for it", line.name())
	}
	return true
}

// insistOn strikes, and once more what did not take alone: that was bad luck, or there is
// no such fault.
func (d *run) insistOn(ctx context.Context, line strike) []*struck {
	hit, err := d.strike(ctx, line)
	if err == nil || !line.alone() || ctx.Err() != nil {
		return []*struck{hit}
	}
	_ = wait(ctx, breath)
	again, err := d.strike(ctx, line)
	if err != nil {
		d.found("drill", "%s did not take: %v", line.name(), err)
	}
	return []*struck{hit, again}
}

// besides lets a fault go on while others strike.
func (d *run) besides(ctx context.Context, f fault, hit *struck) {
	say("%s: %s, beside the others", d.clock(), f.name)
	err := f.strike(ctx, d)
	hit.Took = time.Since(d.started) - hit.At
	if err != nil && ctx.Err() == nil {
		hit.Trouble = err.Error()
		d.found("drill", "%s did not take: %v", f.name, err)
	}
}

// strike lets faults strike, and mends everything when one does not take. Two may
// trip over each other: a command in a container that is paused.
func (d *run) strike(ctx context.Context, line strike) (*struck, error) {
	hit := &struck{Fault: line.name(), Alone: line.alone(), At: time.Since(d.started)}
	say("%s: %s (%d orders accepted)", d.clock(), hit.Fault, len(d.load.accepted()))
	// One after the other begins, all go on together; what they need of the same
	// container is mended by whoever comes last.
	errs := make([]error, len(line.faults))
	var striking sync.WaitGroup
	for i, f := range line.faults {
		striking.Go(func() { errs[i] = f.strike(ctx, d) })
	}
	striking.Wait()
	hit.Took = time.Since(d.started) - hit.At
	hit.Mended = hit.At + hit.Took
	if hit.Alone && d.brokerCame > hit.At {
		hit.Mended = d.brokerCame
	}
	err := errors.Join(errs...)
	var wrong finding
	switch {
	case hit.Alone && errors.As(err, &wrong): // it took, and showed something
		d.found(wrong.Kind, "%s: %s", hit.Fault, wrong.What)
		err = nil
	case err != nil:
		hit.Trouble = err.Error()
		say("%s: %v", d.clock(), err)
		if err := d.mend(ctx); err != nil {
			d.found("drill", "%s could not be mended: %v", hit.Fault, err)
		}
		hit.Mended = time.Since(d.started)
	}
	return hit, err
}

// found notes what a strike has shown.
func (d *run) found(kind, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.findings = append(d.findings, finding{kind, fmt.Sprintf(format, args...)})
}

// mend brings everything back, whatever was broken.
func (d *run) mend(ctx context.Context) (err error) {
	for range 3 {
		if err = d.steps(ctx, d.clearWire, d.startAll, d.system.brokerUp, d.resume, d.worldWell("provider.refuse"), d.worldAgain, d.admit("orders", true),
			d.ctl("set_vm_memory_high_watermark 0.6"), d.ctl("set_disk_free_limit 500MB"), d.applyTopology); err == nil {
			return nil
		}
	}
	return err
}

func (d *run) clearWire(context.Context) error {
	if d.system.wire == nil {
		return nil
	}
	toxics, err := d.system.wire.Toxics()
	for _, t := range toxics {
		err = errors.Join(err, d.system.wire.RemoveToxic(t.Name))
	}
	return err
}

// startAll starts every container and puts it into the network.
func (d *run) startAll(ctx context.Context) error {
	_, _ = d.system.script(ctx, "docker unpause $(docker ps -q --filter status=paused --filter label=com.docker.compose.project="+d.system.project+")") // an error: none is paused
	for _, service := range slices.Concat(d.system.nodes, []string{"postgres", "sandbox"}, services) {
		for number := range max(replicas[service], 1) {
			if err := d.system.one(ctx, "start", service, number+1); err != nil {
				return err
			}
			_ = d.system.one(ctx, "network connect --alias "+service+" "+d.system.project+"_default", service, number+1) // an error: it is connected
		}
	}
	return nil
}
