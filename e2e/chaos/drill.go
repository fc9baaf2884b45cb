package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/e2e/internal/machine"
)

const (
	// firstStrike lets the system work in peace for a moment.
	firstStrike = 5 * time.Second
	// paymentDeadline is short enough to pass during some faults.
	paymentDeadline = 30 * time.Second
	// settleTime is how long the last order may take after the last fault: a payment
	// deadline, and the longest delays of retries.
	settleTime = 5 * time.Minute
)

// run is one drill while it goes on.
type run struct {
	system   *system
	load     *load
	injected map[string]string // poison by message id: where it was put
	started  time.Time

	mu      sync.Mutex
	samples []sampled
}

// sampled is how far the orders were at a time.
type sampled struct {
	At       time.Duration
	Accepted int
	Ended    int // by payment or refusal; customers cancel whatever is broken
	Moving   int
}

// struck is what one fault, or several at once, did.
type struck struct {
	Fault    string        `json:"fault"`
	At       time.Duration `json:"at_ns"`
	Took     time.Duration `json:"took_ns"`
	Accepted int           `json:"accepted"`         // orders, until the next fault
	Ended    int           `json:"ended"`            // meanwhile
	Moving   int           `json:"moving"`           // when the next fault strikes
	Pause    time.Duration `json:"longest_pause_ns"` // without an order coming to its end
	Recovery time.Duration `json:"recovery_ns"`      // from mended to the next order that ended
	Became   tally         `json:"became"`           // what these orders were at the end

	first int // of the accepted orders
}

// drill brings a system up, breaks it by the script, and reads the books.
func drill(ctx context.Context, c settings, script []strike) (report *report, err error) {
	unlock, err := machine.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	say("seed %d: bringing up a system for the drill (2 to 5 min the first time)", c.seed)
	s, err := start(ctx, c.cluster)
	if s != nil && !c.keep {
		defer func() { err = errors.Join(err, s.stop(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return nil, err
	}
	d := &run{system: s, load: newLoad(s), injected: map[string]string{}, started: time.Now()}
	patience, giveUp := context.WithTimeout(ctx, c.duration+settleTime)
	defer giveUp()
	loading, stopLoad := context.WithCancel(ctx)
	sampling, stopSampling := context.WithCancel(ctx)
	var background, placing sync.WaitGroup
	placing.Go(func() { d.load.place(loading, patience, c.rate) })
	background.Go(func() { d.sample(sampling) })
	strikes, err := d.follow(ctx, script, c.duration)
	if err == nil {
		err = wait(ctx, time.Until(d.started.Add(c.duration)))
	}
	stopLoad()
	say("%s: no more orders; waiting for the last ones to end", d.clock())
	placing.Wait() // from here on nobody new comes
	d.load.run.Wait()
	books, settleErr := d.settle(ctx)
	stopSampling()
	background.Wait()
	absorbed, logsErr := d.absorbed(ctx)
	if err = errors.Join(err, settleErr, logsErr); err != nil {
		return nil, err
	}
	report = d.report(c, strikes, books)
	report.Absorbed = absorbed
	return report, nil
}

// A script says what happens when, counted from the first order.
type strike struct {
	at     time.Duration
	faults []fault
}

// At is a line of a script. It waits for the line before, if that takes longer.
func At(at time.Duration, faults ...fault) strike { return strike{at, faults} }

// seeded writes a script: each fault alone, in the seed's order, then two at once
// until time is over.
func seeded(c settings) ([]strike, error) {
	pick, err := regexp.Compile(c.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	all := faults
	if c.cluster {
		all = clusterFaults
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(f fault) bool { return !pick.MatchString(f.name) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only: no fault is called %q", c.only)
	}
	random := rand.New(rand.NewPCG(c.seed, 1))
	random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	var script []strike
	for n, at := 0, firstStrike; at < c.duration; n++ {
		together := []fault{chosen[n%len(chosen)]}
		if n >= len(chosen) {
			together = append(together, chosen[random.IntN(len(chosen))])
		}
		script = append(script, At(at, together...))
		for _, f := range together {
			at += f.takes / time.Duration(len(together))
		}
		at += 5*time.Second + time.Duration(random.IntN(4000))*time.Millisecond
	}
	return script, nil
}

// follow carries a script out. Lines that would begin after the end, since those
// before took longer than they should, are left out.
func (d *run) follow(ctx context.Context, script []strike, end time.Duration) ([]struck, error) {
	var strikes []struck
	for n, line := range script {
		if err := wait(ctx, time.Until(d.started.Add(line.at))); err != nil {
			return strikes, err
		}
		if time.Since(d.started) > end {
			say("%s: time is over, %d lines of the script are left out", d.clock(), len(script)-n)
			break
		}
		hit, err := d.strike(ctx, line.faults)
		strikes = append(strikes, hit)
		if err != nil {
			return strikes, err
		}
	}
	return strikes, nil
}

func (d *run) strike(ctx context.Context, together []fault) (struck, error) {
	var names []string
	for _, f := range together {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	hit := struck{Fault: strings.Join(names, " + "), At: time.Since(d.started)}
	say("%s: %s (%d orders accepted)", d.clock(), hit.Fault, len(d.load.accepted()))
	// One after the other begins, all go on together; what they need of the same
	// container is mended by whoever comes last.
	errs := make([]error, len(names))
	var striking sync.WaitGroup
	for i, name := range names {
		f := together[slices.IndexFunc(together, func(f fault) bool { return f.name == name })]
		striking.Go(func() { errs[i] = f.strike(ctx, d) })
	}
	striking.Wait()
	hit.Took = time.Since(d.started) - hit.At
	err := errors.Join(errs...)
	if err != nil && len(names) > 1 {
		// Two faults may trip over each other (a command in a container that is
		// paused): mend everything and go on.
		say("%s: %v", d.clock(), err)
		return hit, d.mend(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", hit.Fault, err)
	}
	return hit, err
}

// mend brings everything back after two faults that got into each other's way.
func (d *run) mend(ctx context.Context) error {
	_, _ = d.system.script(ctx, "docker unpause $(docker ps -q --filter status=paused --filter label=com.docker.compose.project="+d.system.project+")")
	for _, service := range append(slices.Clone(d.system.nodes), "postgres", "sandbox", "orders", "pricing-rpc", "billing", "notifier") {
		for number := range max(replicas[service], 1) {
			if err := d.system.one(ctx, "start", service, number+1); err != nil {
				return err
			}
			_ = d.system.one(ctx, "network connect --alias "+service+" "+d.system.project+"_default", service, number+1) // an error: it is connected
		}
	}
	if err := d.system.brokerUp(ctx); err != nil {
		return err
	}
	return d.steps(ctx, d.ctl("set_vm_memory_high_watermark 0.6"), d.ctl("set_disk_free_limit 500MB"),
		func(ctx context.Context) error {
			_, err := d.system.compose(ctx, "up --no-build --no-deps topology")
			return err
		})
}

// sample notes progress four times a second.
func (d *run) sample(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := d.system.counts(ctx, "orders", `SELECT 'ended', count(*) FILTER (WHERE status NOT IN ('placed', 'cancelled'))::text FROM orders
			UNION ALL SELECT 'moving', count(*)::text FROM orders WHERE status = 'placed' OR refund_open`)
		if err != nil {
			continue // the database is away
		}
		d.mu.Lock()
		d.samples = append(d.samples, sampled{time.Since(d.started), len(d.load.accepted()), now["ended"], now["moving"]})
		d.mu.Unlock()
	}
}

// settle waits until nothing moves any more, and gives the books at that time.
func (d *run) settle(ctx context.Context) (books, error) {
	deadline := time.Now().Add(settleTime)
	for {
		b, err := d.read(ctx)
		if err == nil && b.moving() == 0 && len(b.waiting) == 0 || time.Now().After(deadline) {
			return b, errors.Join(err, d.readAudit(ctx, &b))
		}
		if err := wait(ctx, 2*time.Second); err != nil {
			return b, err
		}
	}
}

// read reads everybody's books.
func (d *run) read(ctx context.Context) (books, error) {
	b := books{accepted: d.load.accepted(), injected: d.injected, orders: map[string]order{}, dead: map[string][]deadLetter{}, waiting: map[string]int{}}
	var errs [9]error
	var states map[string]string
	states, errs[0] = d.system.query(ctx, "orders", `SELECT id::text, concat_ws(' ', status, tier, CASE WHEN refund_open THEN 'open' END) FROM orders`)
	for id, state := range states {
		words := strings.Fields(state)
		b.orders[id] = order{status: words[0], express: words[1] == "express", refundOpen: len(words) > 2}
	}
	b.captures, errs[1] = d.system.counts(ctx, "sandbox", `SELECT order_id, count(*)::text FROM captures GROUP BY 1`)
	b.payments, errs[2] = d.system.query(ctx, "sandbox", `SELECT order_id, payment_id FROM captures`)
	b.refunds, errs[3] = d.system.counts(ctx, "sandbox", `SELECT order_id, count(*)::text FROM refunds GROUP BY 1`)
	b.mails, errs[4] = d.system.counts(ctx, "sandbox", `SELECT dedupe_key, count(*)::text FROM mails GROUP BY 1`)
	b.webhooks, errs[5] = d.system.counts(ctx, "sandbox", `SELECT dedupe_key, count(*)::text FROM webhooks GROUP BY 1`)
	var queues map[string]int
	queues, errs[6] = d.system.queues(ctx)
	for queue, n := range queues {
		switch {
		case n == 0, queue == "orders.payment-deadline", queue == "audit":
		case strings.HasSuffix(queue, ".dead"), queue == "unrouted":
			errs[7] = errors.Join(errs[7], d.readDead(queue, b.dead))
		default:
			b.waiting[queue] = n
		}
	}
	for _, service := range []string{"orders", "billing", "notifier"} {
		outbox, err := d.system.counts(ctx, service, `SELECT 'outbox', count(*)::text FROM outbox`)
		errs[8] = errors.Join(errs[8], err)
		if n := outbox["outbox"]; n > 0 {
			b.waiting["outbox of "+service] = n
		}
	}
	return b, errors.Join(errs[:]...)
}

// readDead looks at a dead-letter queue and leaves everything in it.
func (d *run) readDead(queue string, into map[string][]deadLetter) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives back what was looked at
	for {
		m, ok, err := ch.Get(queue, false)
		if err != nil || !ok {
			return err
		}
		reason, _ := m.Headers["dead-reason"].(string)
		into[m.MessageId] = append(into[m.MessageId], deadLetter{queue, reason})
	}
}

// readAudit reads the audit stream from its beginning to now.
func (d *run) readAudit(ctx context.Context, b *books) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	now := uuid.NewString()
	err = errors.Join(ch.Qos(1000, 0, false), ch.PublishWithContext(ctx, "", "audit", true, false, amqp.Publishing{MessageId: now, DeliveryMode: amqp.Persistent}))
	if err != nil {
		return fmt.Errorf("read the audit stream: %w", err)
	}
	deliveries, err := ch.ConsumeWithContext(ctx, "audit", "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		return fmt.Errorf("read the audit stream: %w", err)
	}
	b.events = map[event]int{}
	patience := time.After(2 * time.Minute)
	for {
		select {
		case m, ok := <-deliveries:
			if !ok {
				return errors.New("read the audit stream: the broker ended it")
			}
			if m.MessageId == now {
				return nil
			}
			b.events[event{m.CorrelationId, m.Type}]++
			if err := m.Ack(false); err != nil {
				return fmt.Errorf("read the audit stream: %w", err)
			}
		case <-patience:
			return errors.New("read the audit stream: it has no end")
		}
	}
}

// absorbed counts the messages that billing and notifier say they had handled before.
func (d *run) absorbed(ctx context.Context) (int, error) {
	out, err := d.system.script(ctx, fmt.Sprintf(`for c in $(docker ps -aq --filter label=com.docker.compose.project=%[1]s --filter label=com.docker.compose.service=billing) $(docker ps -aq --filter label=com.docker.compose.project=%[1]s --filter label=com.docker.compose.service=notifier); do
		docker logs $c 2>&1 | grep -cE 'settled already|"first":false|"already sent"' || true
	done`, d.system.project))
	n := 0
	for _, line := range strings.Fields(out) {
		count, err := strconv.Atoi(line)
		if err != nil {
			return n, fmt.Errorf("read the logs: %w", err)
		}
		n += count
	}
	return n, err
}

func (d *run) clock() string { return fmt.Sprintf("%4.0f s", time.Since(d.started).Seconds()) }

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", args...) }
