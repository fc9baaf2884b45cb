package messaging

import amqp "github.com/rabbitmq/amqp091-go"

// arguments are what a queue is declared with: for a durable queue only what can
// never change, for an exclusive one everything, since no policy is written for it.
func (q Queue) arguments() amqp.Table {
	args := amqp.Table{"x-queue-type": string(q.Type)}
	if q.SingleActiveConsumer {
		args["x-single-active-consumer"] = true
	}
	if q.MaxPriority > 0 {
		args["x-max-priority"] = q.MaxPriority
	}
	if q.Exclusive {
		for key, value := range q.policy() {
			args["x-"+key] = value
		}
	}
	return args
}
