// Command sandbox is the outside world: a payment provider, a mailbox and a
// receiver of webhooks. It is not part of the system, and speaks no AMQP.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/app"
)

func main() { service.Main("sandbox", app.New) }
