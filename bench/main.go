// Command bench compares pkg/messaging with code written by hand on amqp091-go. In one run on one
// broker, the rounds of both alternate, so that both have the same load of the machine. `make
// bench` runs it; RESULTS.md explains the results.
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
	if err := run(ctx, parse()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags of a run.
type settings struct {
	url        string
	database   string
	brokerPID  int
	rounds     int
	scale      float64
	only       string
	contenders string
	out        string
	profile    string
}

func parse() (s settings) {
	flag.StringVar(&s.url, "url", "amqp://bench:bench@127.0.0.1:5679/", "the broker")
	flag.StringVar(&s.database, "database", "postgres://postgres:bench@127.0.0.1:5479/postgres", "a PostgreSQL, whose tables inbox and effects are removed")
	flag.IntVar(&s.brokerPID, "broker-pid", 0, "the broker's process on this machine, to measure its CPU too")
	flag.IntVar(&s.rounds, "rounds", 15, "how often each contender runs; the median counts")
	flag.Float64Var(&s.scale, "scale", 1, "factor on the number of messages")
	flag.StringVar(&s.only, "only", "", "regular expression on scenario names")
	flag.StringVar(&s.contenders, "contenders", "", "regular expression on contenders' names")
	flag.StringVar(&s.out, "out", "", "folder for RESULTS.md, results.json and results.png; none are written without it")
	flag.StringVar(&s.profile, "profile", "", "file for a CPU profile")
	flag.Parse()
	return s
}

func run(ctx context.Context, s settings) error {
	chosen, err := s.choose()
	if err != nil {
		return err
	}
	if s.profile != "" {
		file, err := os.Create(s.profile)
		if err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	b, err := dial(s.url, s.brokerPID)
	if err != nil {
		return err
	}
	defer b.close()
	b.database = s.database
	r := newResults(b.version, s.rounds)
	if err := s.measureAll(ctx, b, chosen, r); err != nil {
		return err
	}
	fmt.Println()
	fmt.Print(r.table(chosen))
	fmt.Print(r.promises(chosen))
	if s.out == "" {
		return nil
	}
	return r.write(s.out, chosen)
}

// choose returns the scenarios and contenders whose names match.
func (s settings) choose() (chosen []scenario, err error) {
	only, err := regexp.Compile(s.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	contenders, err := regexp.Compile(s.contenders)
	if err != nil {
		return nil, fmt.Errorf("-contenders: %w", err)
	}
	for _, sc := range scenarios() {
		if !only.MatchString(sc.name) {
			continue
		}
		sc.contenders = slices.DeleteFunc(sc.contenders, func(c contender) bool { return !contenders.MatchString(c.name) })
		chosen = append(chosen, sc)
	}
	return chosen, nil
}

// measureAll runs all contenders, round by round, after a round to warm up.
func (s settings) measureAll(ctx context.Context, b *broker, chosen []scenario, r *results) error {
	started := time.Now()
	for round := range s.rounds + 1 {
		for _, sc := range chosen {
			for i := range sc.contenders {
				// Each round begins with another contender, so that none is always the first or last.
				c := sc.contenders[(i+round)%len(sc.contenders)]
				got, err := measure(ctx, b, sc, c, s.scale)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", sc.name, c.name, err)
				}
				if round == 0 {
					continue
				}
				r.add(sc, c, got)
				fmt.Printf("%4.0f s  round %d/%d  %-10s %-28s %s\n", time.Since(started).Seconds(), round, s.rounds, sc.name, c.name, got)
			}
		}
	}
	return nil
}
