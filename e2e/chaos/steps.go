package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
)

// The steps of faults.

type step func(ctx context.Context) error

func (d *run) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(how time.Duration) step {
	return func(ctx context.Context) error { return wait(ctx, how) }
}

// kill ends every replica of a service with SIGKILL and starts them again.
func (d *run) kill(service string) step {
	return func(ctx context.Context) error {
		return d.steps(ctx, d.docker("kill -s KILL", service), d.docker("start", service))
	}
}

// docker runs a docker command on all replicas of a service at once.
func (d *run) docker(command, service string) step {
	return func(ctx context.Context) error { return d.system.docker(ctx, command, service) }
}

// freeze pauses the one container of a service. The kernel gives up when processes begin
// faster than it can freeze them.
func (d *run) freeze(service string) step {
	return func(ctx context.Context) error {
		return poll(ctx, 20*time.Second, func() error { return d.system.docker(ctx, "pause", service) })
	}
}

// each runs it on one after the other.
func (d *run) each(command, service string) step {
	return func(ctx context.Context) error {
		for n := range replicas[service] {
			if err := d.system.one(ctx, command, service, n+1); err != nil {
				return err
			}
		}
		return nil
	}
}

func (d *run) one(command, service string, number int) step {
	return func(ctx context.Context) error { return d.system.one(ctx, command, service, number) }
}

func (d *run) ctl(arguments string) step {
	return func(ctx context.Context) error { return d.system.rabbitmqctl(ctx, arguments) }
}

// brokerBack waits until the broker is ready. Work must go on from then.
func (d *run) brokerBack(ctx context.Context) error {
	err := d.system.brokerUp(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.brokerCame = time.Since(d.started)
	return err
}

// says waits until a service has logged something: it has felt the fault.
func (d *run) says(service, what string, since time.Time) step {
	return func(ctx context.Context) error {
		return poll(ctx, 20*time.Second, func() error {
			_, err := d.system.script(ctx, fmt.Sprintf(`for c in $(docker ps -aq --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=%s); do
				docker logs --since %s $c 2>&1
			done | grep -q '%s'`, d.system.project, service, since.UTC().Format(time.RFC3339Nano), what))
			if err != nil {
				err = fmt.Errorf("%s does not say %q", service, what)
			}
			return err
		})
	}
}

// alarmed waits until the broker has an alarm.
func (d *run) alarmed(ctx context.Context) error {
	return poll(ctx, 10*time.Second, func() error {
		err := d.system.management(ctx, http.MethodGet, "/api/health/checks/alarms", nil, nil)
		if err == nil {
			return errors.New("the broker has no alarm")
		}
		if !strings.Contains(err.Error(), http.StatusText(http.StatusServiceUnavailable)) {
			return err
		}
		return nil
	})
}

// toxic spoils billing's way to the broker, in both directions, for as long as a step takes.
func (d *run) toxic(ctx context.Context, kind string, attributes toxiproxy.Attributes, during step) error {
	for _, direction := range []string{"upstream", "downstream"} {
		toxic, err := d.system.wire.AddToxic(kind+" "+direction, kind, direction, 1, attributes)
		if err != nil {
			return err
		}
		defer func() { _ = d.system.wire.RemoveToxic(toxic.Name) }()
	}
	return during(ctx)
}
