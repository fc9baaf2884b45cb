package stack

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
)

// Access to the broker as its administrator. Call ReadPasswords first.

// TotalsAge is more than the age of the numbers that Messages returns, 5 s.
const TotalsAge = 6 * time.Second

// The nodes' ports, in the order of Nodes.
var (
	amqpPorts       = []string{"AMQP_PORT", "SECOND_AMQP_PORT", "THIRD_AMQP_PORT"}
	managementPorts = []string{"MANAGEMENT_PORT", "SECOND_MANAGEMENT_PORT", "THIRD_MANAGEMENT_PORT"}
)

// Rabbitmqctl runs rabbitmqctl on the first node.
func (s *Stack) Rabbitmqctl(ctx context.Context, arguments string) error {
	_, err := s.Compose(ctx, "exec -T rabbitmq rabbitmqctl -q "+arguments)
	return err
}

// DialBroker connects to the first node that answers.
func (s *Stack) DialBroker() (conn *amqp.Connection, err error) {
	for node := range s.Nodes {
		if conn, err = s.dialNode(node); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (s *Stack) dialNode(node int) (*amqp.Connection, error) {
	return amqp.Dial(fmt.Sprintf("amqp://admin:%s@%s/", s.passwords.broker, s.Address(amqpPorts[node])))
}

// BrokerUp waits until every node accepts AMQP connections and opens a channel.
func (s *Stack) BrokerUp(ctx context.Context) error {
	for node := range s.Nodes {
		err := Poll(ctx, 2*time.Minute, func() error {
			conn, err := s.dialNode(node)
			if err != nil {
				return err
			}
			_, err = conn.Channel()
			return errors.Join(err, conn.Close())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Messages returns the number of messages in each queue that the broker reports. The numbers
// include messages that are not acknowledged or wait for another attempt, and are up to 5 s old.
func (s *Stack) Messages(ctx context.Context) (map[string]int, error) {
	var list []struct {
		Name     string `json:"name"`
		Messages *int   `json:"messages"`
	}
	if err := s.Management(ctx, http.MethodGet, "/api/queues?disable_stats=true&enable_queue_totals=true", nil, &list); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, q := range list {
		if q.Messages != nil {
			out[q.Name] = *q.Messages
		}
	}
	return out, nil
}

// Management calls the management API of the first node that answers. in is sent as JSON,
// and the answer is decoded into out, unless that is nil.
func (s *Stack) Management(ctx context.Context, method, path string, in, out any) (err error) {
	for node := range s.Nodes {
		if err = s.ManagementOf(ctx, node, method, path, in, out); err == nil {
			return nil
		}
	}
	return err
}

// ManagementOf calls the API of one node, by its index in Nodes.
func (s *Stack) ManagementOf(ctx context.Context, node int, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Address(managementPorts[node])+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth("admin", s.passwords.broker)
	answer, err := s.do(req)
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// do sends a request and returns the body of the answer; a status of 300 or more is an error.
func (s *Stack) do(req *http.Request) ([]byte, error) {
	res, err := s.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = errors.New(res.Status)
	}
	return answer, err
}
