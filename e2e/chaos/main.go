// Command chaos breaks a running Orderflow on purpose and then counts: whatever was
// killed, cut or filled up, no order that was accepted may be lost, charged twice
// or stuck. `make chaos` runs it against the real containers, under a compose
// project and ports of its own, and removes them afterwards.
//
// The same seed gives the same faults in the same order at the same times.
//
// This package has the script, which says what happens when, and the drill, which follows
// it. Package faults breaks and repairs, load places orders and measures, report writes;
// e2e/internal/stack starts the system, and tools/orderctl/ledger reads and checks the
// books.
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

	"example.com/orderflow/e2e/chaos/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c settings
	var out string
	flag.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()%100_000), "which faults there are when")
	flag.DurationVar(&c.duration, "duration", 0, "how long there are orders and faults; 0 is long enough for each fault")
	flag.Float64Var(&c.rate, "rate", 15, "orders a second")
	flag.StringVar(&c.only, "only", "", "regular expression on the names of faults")
	flag.BoolVar(&c.cluster, "cluster", false, "three broker nodes, and the faults of a cluster")
	flag.StringVar(&out, "out", "", "folder for reliability.md, chaos.json and the plot; none are written without it")
	flag.BoolVar(&c.keep, "keep", false, "leave the containers running")
	flag.Parse()
	script, err := seeded(&c)
	var r *report.Report
	if err == nil {
		r, err = run(ctx, c, script)
	}
	if r != nil {
		err = errors.Join(err, publish(r, out))
		fmt.Println(r.LastLine())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !r.Passed() {
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
	keep     bool
	// inspect looks at the system before it is removed.
	inspect func(ctx context.Context, d *drill) error
}

// publish prints the report, and writes it to a folder, if there is one.
func publish(r *report.Report, folder string) error {
	err := r.Print(os.Stdout)
	if err != nil || folder == "" {
		return err
	}
	page, err := r.Write(folder)
	if err == nil {
		say("the report is in %s", page)
	}
	return err
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", args...) }
