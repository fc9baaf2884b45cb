// Command bench measures pkg/messaging beside code written by hand on amqp091-go,
// interleaved in one run on one broker: what is compared saw the same minute of
// the same machine. `make bench` runs it; RESULTS.md says how to read it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	url := flag.String("url", "amqp://bench:bench@127.0.0.1:5679/", "the broker")
	pid := flag.Int("broker-pid", 0, "the broker's process on this machine, to measure its CPU too")
	rounds := flag.Int("rounds", 15, "how often each contender runs; the median counts")
	scale := flag.Float64("scale", 1, "factor on the number of messages")
	only := flag.String("only", "", "regular expression on scenario names")
	contenders := flag.String("contenders", "", "regular expression on contenders' names")
	out := flag.String("out", "", "folder for RESULTS.md, results.json and results.png; none are written without it")
	profile := flag.String("profile", "", "file for a CPU profile")
	flag.Parse()
	pick, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	against, err := regexp.Compile(*contenders)
	if err != nil {
		return fmt.Errorf("-contenders: %w", err)
	}
	b, err := dial(*url, *pid)
	if err != nil {
		return err
	}
	defer b.close()

	var chosen []scenario
	for _, s := range scenarios() {
		if !pick.MatchString(s.name) {
			continue
		}
		s.contenders = slices.DeleteFunc(s.contenders, func(c contender) bool { return !against.MatchString(c.name) })
		chosen = append(chosen, s)
	}
	r := newResults(b.version, *rounds)
	started := time.Now()
	for round := range *rounds + 1 {
		for _, s := range chosen {
			for i := range s.contenders {
				// Another one begins each time: none always runs on a warm or a tired machine.
				c := s.contenders[(i+round)%len(s.contenders)]
				got, err := measure(ctx, b, s, c, *scale)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, c.name, err)
				}
				if round == 0 { // to warm up
					continue
				}
				r.add(s, c, got)
				fmt.Printf("%4.0f s  round %d/%d  %-10s %-28s %s\n", time.Since(started).Seconds(), round, *rounds, s.name, c.name, got)
			}
		}
	}
	fmt.Println()
	fmt.Print(r.table(chosen))
	fmt.Print(r.promises(chosen))
	if *out == "" {
		return nil
	}
	return r.write(*out, chosen)
}
