package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"example.com/orderflow/contract"
)

// The faults that go on for longer than any number of attempts lasts: what they keep
// waiting must wait, and then go on by itself.

// outage is longer than the 21 attempts of a work queue, 3.5 min, and than a shard's,
// 75 s.
const outage = 6 * time.Minute

var (
	databaseAway = fault{"PostgreSQL away for 6 min", outage + 40*time.Second, func(ctx context.Context, d *run) error {
		return d.outage(ctx, d.freeze("postgres"), "orders", "database", d.docker("unpause", "postgres"))
	}}
	providerRefuses = fault{"provider refuses with 401 for 6 min", outage + 2*time.Minute, func(ctx context.Context, d *run) error {
		return d.outage(ctx, d.world("provider.refuse", "401"), "billing", "401", d.worldWell("provider.refuse"))
	}}
	mailAway = fault{"SMTP away for 6 min", outage + time.Minute, func(ctx context.Context, d *run) error {
		return d.outage(ctx, d.world("mail.down", ""), "notifier", "notifier.email", d.worldWell("mail.down"))
	}}
	// Charges come in meanwhile: payments are captured that orders cannot hear of, and
	// whose deadlines pass.
	ordersClosed = fault{"orders' database closed for 6 min while charges come in", outage + time.Minute, func(ctx context.Context, d *run) error {
		charges := func(ctx context.Context) error {
			return d.steps(ctx, d.docker("stop -t 45", "billing"), d.unpaid(60), d.admit("orders", false), d.docker("start", "billing"))
		}
		return d.outage(ctx, charges, "orders", "database", d.admit("orders", true))
	}}
)

// outage lets something begin, waits until a service says that it is not ready and why,
// lets time pass, ends it, and waits until everything has caught up.
func (d *run) outage(ctx context.Context, begin step, service, why string, end step) error {
	err := d.steps(ctx, begin, d.notReady(service, why), pause(outage), d.notReady(service, why))
	return errors.Join(err, d.steps(context.WithoutCancel(ctx), end), d.steps(ctx, d.caughtUp))
}

// world is the outside world with one of the sandbox's switches on.
func (d *run) world(name, value string) step {
	return func(ctx context.Context) error {
		d.mu.Lock()
		d.switches[name] = value
		d.mu.Unlock()
		return d.worldAgain(ctx)
	}
}

// worldAgain turns on the switches that are on: the sandbox forgets them when it stops.
func (d *run) worldAgain(ctx context.Context) error {
	d.mu.Lock()
	switches := maps.Clone(d.switches)
	d.mu.Unlock()
	for name, value := range switches {
		body, err := json.Marshal(map[string]string{"value": value})
		if err != nil {
			return err
		}
		// It may start at this moment.
		err = poll(ctx, 30*time.Second, func() error { return d.system.sandbox(ctx, http.MethodPut, "/v1/faults/"+name, body) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *run) worldWell(name string) step {
	return func(ctx context.Context) error {
		d.mu.Lock()
		delete(d.switches, name)
		d.mu.Unlock()
		return poll(ctx, time.Minute, func() error { return d.system.sandbox(ctx, http.MethodDelete, "/v1/faults/"+name, nil) })
	}
}

func (s *system) sandbox(ctx context.Context, method, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:"+s.ports["SANDBOX_PORT"]+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, answer)
	}
	return err
}

// unpaid waits until so many orders wait for their payment.
func (d *run) unpaid(n int) step {
	return func(ctx context.Context) error {
		return poll(ctx, time.Minute, func() error {
			now, err := d.system.counts(ctx, "orders", `SELECT 'unpaid', count(*)::text FROM orders WHERE status = 'placed'`)
			if err == nil && now["unpaid"] < n {
				err = fmt.Errorf("only %d orders wait for their payment", now["unpaid"])
			}
			return err
		})
	}
}

// admit closes a database to connections, and ends those that there are, or opens it.
func (d *run) admit(database string, open bool) step {
	return func(ctx context.Context) error {
		conn, err := d.system.database(ctx, "postgres", d.system.superuser, "postgres")
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", database, open))
		if err == nil && !open {
			_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
		}
		return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
}

// notReady waits until a replica of a service says that it is not ready, and why, and
// notes what it says.
func (d *run) notReady(service, why string) step {
	return func(ctx context.Context) error {
		err := poll(ctx, 90*time.Second, func() error {
			says, err := d.system.readiness(ctx, service)
			if err != nil {
				return err
			}
			for _, line := range strings.Split(says, "\n") {
				if strings.Contains(line, why) {
					d.mu.Lock()
					defer d.mu.Unlock()
					d.heard = append(d.heard, fmt.Sprintf("%s: %s was not ready: `%s`", strings.TrimSpace(d.clock()), service, strings.TrimSpace(line)))
					return nil
				}
			}
			return fmt.Errorf("%s does not say that %q keeps it from being ready: %s", service, why, says)
		})
		if err != nil && ctx.Err() == nil {
			d.found("wrong", "%v", err) // it went on without a word
			return nil
		}
		return err
	}
}

// adminPorts are where services say whether they are ready, inside of their network.
var adminPorts = map[string]int{"orders": 9081, "billing": 9083, "notifier": 9084}

// readiness is what the replicas of a service that are not ready answer.
func (s *system) readiness(ctx context.Context, service string) (string, error) {
	return s.script(ctx, fmt.Sprintf(`source scripts/lib.sh
		docker run --rm --network %[1]s_default --entrypoint bash "$(setting POSTGRES_IMAGE)" -c 'for n in $(seq %[3]d); do
			(exec 3<>/dev/tcp/%[1]s-%[2]s-$n/%[4]d; printf "GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" >&3; timeout 10 cat <&3) | sed "1,/^\r$/d" | tr -d "\n"; echo
		done'`, s.project, service, replicas[service], adminPorts[service]))
}

// caughtUp waits until nothing waits that came in long ago.
func (d *run) caughtUp(ctx context.Context) error {
	return poll(ctx, 10*time.Minute, func() error {
		waiting, err := d.waiting(ctx)
		if err != nil {
			return err
		}
		delete(waiting, contract.OrdersPaymentDeadline(paymentDeadline).Name) // where they wait by design
		if n := sum(waiting); n > 100 {
			return fmt.Errorf("%d messages wait: %v", n, waiting)
		}
		return nil
	})
}
