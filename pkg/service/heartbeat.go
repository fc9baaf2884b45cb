package service

import (
	"context"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

const heartbeatInterval = 5 * time.Second

// heartbeat publishes every 5 s that this process is alive, its version and how many messages
// it handles, until ctx is done. It is fire and forget: without confirms, no queue is needed,
// and a heartbeat expires when the next one is due.
func heartbeat(ctx context.Context, pub *messaging.Publisher, service string, inFlight func() int64) {
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = pub.Close(closing)
	}()
	started := time.Now()
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		m, err := messaging.NewMessage(contract.Heartbeat, contract.HeartbeatBody{
			Service:       service,
			Instance:      Instance(),
			Version:       Version(),
			InFlight:      inFlight(),
			UptimeSeconds: int64(time.Since(started).Seconds()),
		})
		if err == nil {
			m.Transient = true
			m.Expiration = heartbeatInterval
			_ = pub.Publish(ctx, messaging.Route{Exchange: contract.OpsHeartbeats}, m) // a lost heartbeat is not sent again
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
