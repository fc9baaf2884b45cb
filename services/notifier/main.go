// Command notifier tells customers what became of their orders.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/app"
)

func main() { service.Main("notifier", app.New) }
