// Command billing takes and gives back the money for orders.
package main

import (
	"context"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/billing/app"
)

func main() {
	service.Main("billing", func(ctx context.Context, log *zap.Logger) error {
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
