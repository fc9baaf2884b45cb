// Command sandbox is the outside world: a payment provider, a mailbox and a
// receiver of webhooks. It is not part of the system, and speaks no AMQP.
package main

import (
	"context"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/app"
)

func main() {
	service.Main("sandbox", func(ctx context.Context, log *zap.Logger) error {
		config, err := service.Load[app.Config]()
		if err != nil {
			return err
		}
		a, err := app.New(ctx, config, log)
		if err != nil {
			return err
		}
		return a.Run(ctx)
	})
}
