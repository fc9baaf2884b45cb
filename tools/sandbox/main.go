// Command sandbox simulates the outside systems: a payment provider, a mail server and a
// receiver of webhooks. It is not part of the system, and uses no AMQP.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/app"
)

func main() { service.Main("sandbox", app.New) }
