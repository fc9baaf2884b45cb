package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging"
)

// How the drill speaks to the broker.

// The nodes' ports, in the order of the nodes.
var (
	amqpPorts       = []string{"AMQP_PORT", "SECOND_AMQP_PORT", "THIRD_AMQP_PORT"}
	managementPorts = []string{"MANAGEMENT_PORT", "SECOND_MANAGEMENT_PORT", "THIRD_MANAGEMENT_PORT"}
)

func (s *system) rabbitmqctl(ctx context.Context, arguments string) error {
	_, err := s.compose(ctx, "exec -T rabbitmq rabbitmqctl -q "+arguments)
	return err
}

// amqp opens a connection, to the first node that answers, as the administrator.
func (s *system) amqp() (conn *amqp.Connection, ch *amqp.Channel, err error) {
	for _, port := range amqpPorts[:len(s.nodes)] {
		if conn, ch, err = s.amqpAt(port); err == nil {
			return conn, ch, nil
		}
	}
	return nil, nil, err
}

func (s *system) amqpAt(port string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(fmt.Sprintf("amqp://admin:%s@127.0.0.1:%s/", s.admin, s.ports[port]))
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

// brokerUp waits until every node takes AMQP connections.
func (s *system) brokerUp(ctx context.Context) error {
	for _, port := range amqpPorts[:len(s.nodes)] {
		err := poll(ctx, 2*time.Minute, func() error {
			conn, _, err := s.amqpAt(port)
			if err != nil {
				return err
			}
			return conn.Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// queues gives the messages in each queue of the topology that is no stream. These totals count what is
// held by consumers and what waits for another attempt, and are up to 5 s old.
func (s *system) queues(ctx context.Context) (map[string]int, error) {
	var list []struct {
		Name     string `json:"name"`
		Messages *int   `json:"messages"`
	}
	if err := s.management(ctx, http.MethodGet, "/api/queues?disable_stats=true&enable_queue_totals=true", nil, &list); err != nil {
		return nil, err
	}
	known := map[string]*int{}
	for _, q := range list {
		known[q.Name] = q.Messages
	}
	out := map[string]int{}
	for _, q := range topology.Queues {
		if q.Type == messaging.Stream {
			continue
		}
		if known[q.Name] == nil {
			return nil, fmt.Errorf("the broker does not say how much is in %s", q.Name)
		}
		out[q.Name] = *known[q.Name]
	}
	return out, nil
}

// management asks the management API of the first node that answers.
func (s *system) management(ctx context.Context, method, path string, in, out any) (err error) {
	for _, port := range managementPorts[:len(s.nodes)] {
		if err = s.managementAt(ctx, port, method, path, in, out); err == nil {
			return nil
		}
	}
	return err
}

func (s *system) managementAt(ctx context.Context, port, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:"+s.ports[port]+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth("admin", s.admin)
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = errors.New(res.Status)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
