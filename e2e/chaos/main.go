// Command chaos breaks a running Orderflow on purpose and then counts: whatever was
// killed, cut or filled up, no order that was accepted may be lost, charged twice
// or stuck. `make chaos` runs it against the real containers, under a compose
// project and ports of its own, and removes them afterwards.
//
// The same seed gives the same faults in the same order at the same times.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c settings
	flag.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()%100_000), "which faults strike when")
	flag.DurationVar(&c.duration, "duration", 0, "how long orders come in and faults strike; 0 is long enough for each fault")
	flag.Float64Var(&c.rate, "rate", 15, "orders a second")
	flag.StringVar(&c.only, "only", "", "regular expression on the names of faults")
	flag.BoolVar(&c.cluster, "cluster", false, "three broker nodes, and the faults of a cluster")
	flag.StringVar(&c.out, "out", "", "folder for reliability.md, chaos.json and the plot; none are written without it")
	flag.BoolVar(&c.keep, "keep", false, "leave the containers running")
	flag.Parse()
	script, err := seeded(&c)
	var report *report
	if err == nil {
		report, err = drill(ctx, c, script)
	}
	if report != nil {
		err = errors.Join(err, report.publish(c))
		fmt.Println(report.closing())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !report.passed() {
		os.Exit(1)
	}
}

// settings are what a run is asked for.
type settings struct {
	seed     uint64
	duration time.Duration
	rate     float64
	only     string
	cluster  bool
	out      string
	keep     bool
	// proof looks at the system before it is removed.
	proof func(ctx context.Context, d *run) error
}
