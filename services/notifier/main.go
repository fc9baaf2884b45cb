// Command notifier notifies customers of their orders and payments.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/app"
)

func main() { service.Main("notifier", app.New) }
