package messaging

import (
	"fmt"
	"maps"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Names of arguments.
const (
	argumentType      = "x-queue-type"
	argumentAlternate = "alternate-exchange"
)

// arguments are those that a queue is declared with: for a durable queue only the settings
// that can never change, for an exclusive queue all, since no policy is written for it.
func (q Queue) arguments() amqp.Table {
	if q.Exclusive {
		return q.allArguments()
	}
	args := q.ownArguments()
	maps.Copy(args, carried(q.Arguments))
	return args
}

// ownArguments are the settings for which there is a field and that a policy cannot set.
func (q Queue) ownArguments() amqp.Table {
	args := amqp.Table{argumentType: string(q.Type)}
	if q.SingleActiveConsumer {
		args["x-single-active-consumer"] = true
	}
	if q.MaxPriority > 0 {
		args["x-max-priority"] = q.MaxPriority
	}
	return args
}

// allArguments are the arguments of a queue that has no policy.
func (q Queue) allArguments() amqp.Table {
	args := q.fieldArguments()
	maps.Copy(args, carried(q.Arguments))
	return args
}

// fieldArguments are all settings for which there is a field, as arguments.
func (q Queue) fieldArguments() amqp.Table {
	args := q.ownArguments()
	for key, value := range q.policy() {
		args["x-"+key] = value
	}
	return args
}

// allArguments are the arguments of an exchange that has no policy; nil if there are none.
func (x Exchange) allArguments() amqp.Table {
	args := carried(x.Arguments)
	if x.Alternate != "" {
		if args == nil {
			args = amqp.Table{}
		}
		args[argumentAlternate] = x.Alternate
	}
	return args
}

// checkArguments says what is wrong with the Arguments of an entity. An argument for which
// there is a field is an error.
func checkArguments(raw map[string]any, fields amqp.Table) error {
	if _, err := carriedArguments(raw); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if _, twice := fields[name]; twice {
			return fmt.Errorf("%q: there is a field for this argument", name)
		}
	}
	return nil
}

// carriedArguments are arguments as they are sent; nil if there are none. Values that the
// management API does not list exactly are an error, since they could not be compared.
func carriedArguments(raw map[string]any) (amqp.Table, error) {
	if raw == nil {
		return nil, nil
	}
	w := tableWalk{}
	table, _, err := w.table(raw, 0, maxElements)
	if err != nil {
		return nil, err
	}
	out := make(amqp.Table, len(table))
	for name, value := range table {
		switch v := value.(type) {
		case time.Time:
			return nil, fmt.Errorf("%q: the broker never finds two times equal", name)
		case []byte:
			return nil, fmt.Errorf("%q: bytes cannot be told from a string when they are read", name)
		case float32: // equal to the broker, and listed with the digits of a float64
			out[name] = float64(v)
		default:
			out[name] = value
		}
	}
	return out, nil
}

// carried is carriedArguments for arguments that were checked.
func carried(raw map[string]any) amqp.Table {
	table, err := carriedArguments(raw)
	if err != nil {
		return nil
	}
	return table
}
